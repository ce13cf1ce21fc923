"""The child process that records a run which its parent trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from steersman.files.locks import HeldLock
from steersman.records.typed_json import Malformed, decode, encode
from steersman.starting.messages import (
    PLACE_FILE,
    RESULT_FILE,
    WAIT_S,
    Begun,
    EndedByCaller,
    NewRun,
    Place,
    Result,
    read_file,
    write_ended,
)
from steersman.values import shown

# The process that called `start()`; its child processes inherit the variable, but do not record.
CALLER_VARIABLE = "STEERSMAN_CALLER"
# The folder with `steersman` is put first: the current folder may have modules of any name.
PROGRAM = "import sys; sys.path[0] = {packages!r}; from steersman.agent.remote.beginning import main; sys.exit(main())"
# The child waits for the portal as long as `WAIT_S`, and then has to end.
ENDS_WITHIN_S = WAIT_S + 10.0
NOT_STARTED = "The run could not be started"


class HostChild:
    """The child process of one run, and the variables that its parent has set for its own child processes."""

    def __init__(self, begun: Begun, process: subprocess.Popen[bytes], variables: dict[str, str]) -> None:
        self.attempt = Path(begun.attempt)
        self._launch = Path(begun.launch)
        self._process = process
        self._place = Place(begun.run, 1, begun.page) if begun.run else None
        self._is_refused = begun.is_refused
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    @property
    def place(self) -> Place | None:
        """Where the run is in the portal, None if that has not opened it yet."""
        if self._place is None:
            self._place = read_file(Place, self.attempt / PLACE_FILE)
        return self._place

    def end(self, lock: HeldLock | None) -> None:
        """Tell the child process that the run has ended: all its records are written."""
        try:
            write_ended(self.attempt, EndedByCaller(os.getpid()))
        except OSError as error:
            print(
                f"steersman: the end of the run could not be reported ({error.strerror}), so the run counts as running "
                "until this process ends",
                file=sys.stderr,
            )
        if lock is not None:
            lock.release()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def wait(self) -> bool:
        """Wait until the end is stored, but not for long; return whether the portal has stored all of the run."""
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return False
        result = read_file(Result, self._launch / RESULT_FILE)
        return result is not None and result.is_stored

    @property
    def data(self) -> Path:
        """The folder with the records of this and other runs."""
        return self._launch.parent.parent


def start_child(new_run: NewRun, packages: Path) -> tuple[Begun, subprocess.Popen[bytes] | None]:
    """Start the child process for a run; return its answer. `packages` is the folder that contains `steersman`."""
    command = [sys.executable, "-c", PROGRAM.format(packages=str(packages))]
    try:
        # A session of its own: Ctrl-C and the end of the terminal reach only the training.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return Begun(problem=f"{NOT_STARTED}: {shown(error)}."), None
    assert process.stdin is not None and process.stdout is not None
    try:
        with process.stdin as request, process.stdout as answer:
            request.write(encode(new_run))
            request.close()
            said = answer.read().strip().splitlines()
    except OSError as error:
        process.kill()
        return Begun(problem=f"{NOT_STARTED}: {shown(error)}."), None
    except BaseException:
        # Ctrl-C while the portal was asked.
        process.kill()
        raise
    try:
        begun = decode(Begun, said[-1])
    except (IndexError, Malformed):
        last = said[-1].decode(errors="replace") if said else "its process printed nothing"
        hint = " Run pip install 'steersman[agent]'." if last.startswith("ModuleNotFoundError") else ""
        begun = Begun(problem=f"{NOT_STARTED}: {last}.{hint}")
    if begun.attempt:
        return begun, process
    process.wait()
    return begun, None
