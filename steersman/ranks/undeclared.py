"""Undeclared ranks: processes of a training that a script, or a launcher inside it, started without Steersman.

Only rank 0 of them records. A command would only reach rank 0, and the weights would diverge, so it is refused while
other ranks exist. Each other rank leaves a mark in the attempt's folder; rank 0 leaves one when it has to stop, so that
the supervisor ends the others, which the stop does not reach. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steersman.files.private import write_private
from steersman.ranks.launchers import RankPlace, place_in_torch

# Left by rank 0, beside the journal: its process, once it was asked to stop while others train.
STOPPING_FILE = "stopping.json"
# These may reach only rank 0: at a stop the supervisor ends the others, and a paused training must be able to resume.
HARMLESS = frozenset({"stop", "resume", "note", "cancel", "expire"})


def how_to_declare(size: int) -> str:
    """Return the commands that start a training of `size` declared processes; a size of 0 or 1 is unknown."""
    number = str(size) if size > 1 else "K"
    return (
        f"`steersman run --nproc {number} -- python script.py`, `manage.py train --run-id N --nproc {number} -- "
        f"script.py`, or `torchrun --no-python --nproc-per-node={number} steersman run -- python script.py`"
    )


def unrecorded_notice(place: RankPlace) -> str:
    """Return the notice that an undeclared rank other than 0 prints."""
    of = f" of {place.size}" if place.size else ""
    return (
        f"steersman: this is rank {place.rank}{of}, which was not declared to Steersman: only rank 0 is recorded. To "
        f"record and steer all ranks, start the training with {how_to_declare(place.size)}"
    )


class UndeclaredPeers:
    """The other processes of this training that rank 0 can find: through its launcher, their marks, and PyTorch."""

    def __init__(self, folder: Path, place: RankPlace | None) -> None:
        self._folder = folder
        self._size = place.size if place is not None else 0

    def refusal(self, kind: str) -> str:
        """Return why a command is not possible, "" if this process is alone or the command is harmless."""
        if kind in HARMLESS or not (size := self.count()):
            return ""
        return (
            f"This training has {size} undeclared processes, and the command would reach only rank 0. Start the "
            f"training with {how_to_declare(size)}."
        )

    def count(self) -> int:
        """Return how many processes train together, as far as is known; 0 if this one is alone."""
        if self._size > 1:
            return self._size
        place = place_in_torch()
        if place is not None:
            return place.size
        marked = sum(_is_alive(path) for path in self._folder.glob("beside-*.json"))
        return marked + 1 if marked else 0

    def note_stop(self) -> None:
        """Leave a mark for the supervisor: this process has to stop, and others train with it."""
        path = self._folder / STOPPING_FILE
        try:
            if not path.exists() and self.count():
                mark = {"pid": os.getpid(), "host": socket.gethostname(), "above": ancestors()}
                _write_whole(path, mark)
        except OSError:
            # If the disk is full, the others end later, when their collectives fail.
            return


def leave_mark(folder: Path) -> None:
    """Leave a mark for rank 0: this process trains with it."""
    path = folder / f"beside-{socket.gethostname()}-{os.getpid()}.json"
    try:
        _write_whole(path, {"pid": os.getpid(), "host": socket.gethostname()})
    except OSError as error:
        print(
            f"steersman: rank 0 cannot be notified of this process ({error.strerror}): commands may reach rank 0 alone",
            file=sys.stderr,
        )


def is_below(holder: int) -> bool:
    """Return whether this process descends from process `holder`, as helpers do."""
    return holder in ancestors()


def ancestors() -> list[int]:
    """Return the ancestors of this process, the nearest first."""
    found = []
    pid = _parent(os.getpid())
    while pid > 1:
        found.append(pid)
        pid = _parent(pid)
    return found


def _parent(pid: int) -> int:
    if pid == os.getpid():
        return os.getppid()
    try:
        # The name in brackets may contain anything, even brackets.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _is_alive(path: Path) -> bool:
    """Return whether the process that left a mark is alive; a process of another host counts as alive."""
    try:
        mark = json.loads(path.read_text())
        if mark["host"] != socket.gethostname():
            return True
        os.kill(int(mark["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _write_whole(path: Path, mark: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_private(temporary, json.dumps(mark))
    os.replace(temporary, path)
