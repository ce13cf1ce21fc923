"""Limits the size of a run's console files, because a training that prints endlessly would fill the disk.

No Django, no torch.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from steersman.agent.folders import any_worker_lives
from steersman.agent.journals.console_file import SMALLEST_BOUND_BYTES, bound_earlier, free_middle, without_hole
from steersman.agent.journals.consoles import console_path
from steersman.messages.reports import Line

logger = logging.getLogger(__name__)

# A training that prints fast writes some hundred megabytes in this time.
FILE_INTERVAL_S = 1.0


class ConsoleFiles:
    """Limits the consoles of one attempt to half of `of_run_bytes`, and those of earlier attempts to the other half.
    A thread checks them.
    """

    def __init__(self, folder: Path, ranks: int, of_run_bytes: int) -> None:
        self._folder = folder
        self._of_earlier = of_run_bytes // 2
        self._of_file = max(SMALLEST_BOUND_BYTES, of_run_bytes // 2 // ranks)
        self._files = [console_path(folder, rank) for rank in range(ranks)]
        self._problem = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._free_forever, name="console files", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take_lines(self) -> list[Line]:
        """Return the messages for the console."""
        said, self._problem = self._problem, ""
        return [Line(said, "warning")] if said else []

    def stop(self) -> None:
        """Stop limiting the files."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def end(self) -> None:
        """Turn the consoles into plain files, once no process prints into them."""
        self.stop()
        try:
            if any_worker_lives(self._folder):
                return
            for path in filter(Path.exists, self._files):
                free_middle(path, self._of_file)
                without_hole(path)
        except OSError as error:
            logger.warning(
                "the console files of the training that ended could not be shortened, and occupy more disk space than "
                "allowed (%s)",
                error,
            )

    def _free_forever(self) -> None:
        try:
            bound_earlier(self._earlier(), self._of_earlier)
        except OSError as error:
            logger.warning(
                "the console files of earlier attempts could not be shortened, and occupy more disk space than allowed "
                "(%s)",
                error,
            )
        while not self._stopped.wait(FILE_INTERVAL_S):
            try:
                for path in self._files:
                    free_middle(path, self._of_file)
            except OSError as error:
                self._problem = (
                    f"console.log grows without bound, because its file system cannot free a part of a file ({error})."
                )
                return

    def _earlier(self) -> list[Path]:
        """Return the folders of the attempts before this one in which no process trains, the newest first."""
        numbers = [int(path.name) for path in self._folder.parent.iterdir() if path.name.isdecimal()]
        earlier = sorted((number for number in numbers if number < int(self._folder.name)), reverse=True)
        folders = [self._folder.parent / str(number) for number in earlier]
        return [folder for folder in folders if not any_worker_lives(folder)]
