"""The process that follows a launch: it starts the training, or adopts it, and exchanges messages with the portal.

usage: host_process FOLDER [SECONDS]

It may be killed at any moment and started again: its state is in the folder of the launch. With `SECONDS`, it starts
nothing. It then only sends the records that the portal has not stored, and waits this long for the portal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from steersman.agent.folders import WorkerProcess, close_attempt, living_worker
from steersman.agent.host_side.endings import exit_code_of_program
from steersman.agent.host_side.host_side import HostSide
from steersman.agent.host_side.surroundings import HostSettings
from steersman.agent.launch.attempt_folder import ResumeFrom, make_attempt_folder
from steersman.agent.launch.ended_file import record_ended, recorded_ended
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.spawn import script_command
from steersman.agent.launch.torchrun import close_node_server, start_worker_group
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.launchers.slurm import EndOfJob
from steersman.agent.origin.fetching import read_origin
from steersman.agent.remote.beside import meeting, start_beside, tell_nothing_to_train
from steersman.agent.remote.caller_group import CallerGroup
from steersman.agent.remote.launches import (
    Launch,
    attempt_asked_for,
    attempt_of,
    newest_attempt,
    read_concluded,
    read_identity,
    read_launch,
    read_removed,
    write_concluded,
    write_identity,
    write_launch,
    write_place,
    write_removed,
    write_result,
)
from steersman.agent.remote.no_link import NoLink
from steersman.agent.remote.opening import open_attempt
from steersman.agent.remote.packages import APPLICATION, STOP_SIGNAL_VARIABLE
from steersman.agent.remote.portal_link import PortalLink
from steersman.agent.remote.pushing import push_chosen
from steersman.agent.remote.resuming import knobs_after, newest_checkpoint, remove_older
from steersman.agent.remote.terminal import Terminal, say
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_HELD
from steersman.files.journal_bound import journal_bound_bytes
from steersman.files.locks import HeldLock, try_lock
from steersman.messages.ended import Concluded, Ended, LastWords, SchedulerReason
from steersman.messages.reports import Line
from steersman.portal.addresses import BadAddress
from steersman.portal.logins import Login, NoLogin, login_to_use
from steersman.run import worker_lock_path
from steersman.starting.messages import Place, Result, read_place

LOCK_FILE = "supervisor.lock"
# As shells report them.
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
PUSH_S = 0.08
STALLED_S = 60.0
CONSOLE_FILES_BYTES = 256 << 20
WAIT_STEP_S = 0.1
STARTED_AGAIN = Line("The process that records this training was ended, and started again.", "warning")
# If a launcher starts a launch again: how long to wait for the process that followed the launch before, and then for
# the portal to store the rest of the last attempt. After that, `steersman sync` can send the rest.
EARLIER_ENDS_S = 60.0
# The interval of requests to Slurm whether the grace time of a preempted job is over, and their maximum duration.
GRACE_STEP_S = 2.0
LONGEST_GRACE_S = 3600.0
EARLIER_WAIT_S = 20.0
UNANSWERED = (
    "The portal does not answer, so the end of the training is not stored there yet. Everything is on this "
    "machine; run `steersman sync` to send it."
)


class LaunchProcess:
    """Follows one launch to its end."""

    def __init__(
        self,
        folder: Path,
        launch: Launch,
        login: Login | None,
        interrupts: Interrupts,
        *,
        only_stores: bool,
        is_first: bool,
    ) -> None:
        """`launch.wait_s` is how long to wait for the portal after the end. With `only_stores`, nothing is started.

        `is_first`: no other process has followed the launch. Without a login, it is recorded in its folder only.
        """
        self._folder = folder
        self._launch = launch
        self._login = login
        self._interrupts = interrupts
        self._only_stores = only_stores
        self._is_first = is_first
        # The folder for the data of all launches.
        self._data = folder.parent.parent
        # What a launcher has started ends with the process that it started.
        self._parent = os.getppid() if launch.identity and not only_stores else None
        self._server: NodeServer | None = None
        self._slurm = EndOfJob(launch.slurm_job, launch.turn)

    def follow(self) -> Result:
        """Follow the newest attempt, and each that comes after it; return how the launch has ended."""
        number = newest_attempt(self._folder)
        if number == 0 and self._only_stores:
            return Result(EXIT_FAILED, is_stored=True)
        is_again = number > 0 and read_identity(attempt_of(self._folder, number)) != self._launch.identity
        if self._only_stores or is_again:
            self._store_earlier(number if is_again and not self._only_stores else number - 1)
        begins = number == 0 or is_again or attempt_asked_for(self._folder) > number
        if begins and not self._only_stores:
            result = self._follow_attempt(*self._start_next(number))
        else:
            result = self._go_on(number)
        while not self._only_stores and not self._launch.of_caller and (restart := self._restart_due()) is not None:
            if not self._await_restart(restart):
                # The exit code stays that of the attempt that failed.
                self._follow_attempt(*self._give_up(newest_attempt(self._folder) + 1))
                return result
            result = self._follow_attempt(*self._start_next(newest_attempt(self._folder)))
        if self._slurm.was_preempted and not self._only_stores:
            self._await_requeue()
        elif result.is_stored and self._login is not None:
            push_chosen(self._login, self._folder, self._launch)
        return result

    def _await_requeue(self) -> None:
        """Wait for Slurm to end the job: it counts a job that ends by itself as completed, and does not requeue it."""
        say("the job is preempted: waiting until Slurm requeues it")
        until = time.monotonic() + LONGEST_GRACE_S
        while self._slurm.is_in_grace_time() and self._interrupts.stops < 2 and time.monotonic() < until:
            time.sleep(GRACE_STEP_S)

    def _go_on(self, number: int) -> Result:
        """Follow an attempt whose host process has ended, unless its end is stored already."""
        folder = attempt_of(self._folder, number)
        concluded = read_concluded(folder)
        if concluded is None:
            group, lines = self._adopt(folder)
            if self._launch.beside is not None and self._launch.beside.nodes > 1:
                # The other nodes were connected to the process that has ended, and end their ranks.
                group.end()
            return self._follow_attempt(number, group, lines)
        ended = recorded_ended(folder) or Ended(rank=0, code=concluded.exit_code)
        return Result(exit_code_of_program(ended, concluded, self._interrupts.stops), is_stored=True)

    def _adopt(self, folder: Path) -> tuple[WorkerGroup, list[Line]]:
        if not self._launch.of_caller:
            return adopt(folder, self._launch.ranks, self._parent)
        return CallerGroup(folder), [] if self._is_first else [STARTED_AGAIN]

    def _store_earlier(self, last: int) -> None:
        """Send the unsent records of the attempts up to number `last`, which have ended or are ended here."""
        for number in range(1, last + 1):
            folder = attempt_of(self._folder, number)
            if read_concluded(folder) is not None or not folder.is_dir():
                continue
            group, _ = adopt(folder, self._launch.ranks)
            group.kill(signal.SIGKILL)
            wait_s = self._launch.wait_s if self._only_stores else EARLIER_WAIT_S
            self._follow_attempt(number, group, [], earlier_within_s=wait_s)

    def _restart_due(self) -> Concluded | None:
        """Return the end of the newest attempt if another one follows, else None."""
        concluded = read_concluded(attempt_of(self._folder, newest_attempt(self._folder)))
        return None if concluded is None or concluded.restart_in_s is None else concluded

    def _await_restart(self, concluded: Concluded) -> bool:
        """Wait until the next attempt is due; return False if a signal ended the wait."""
        pause_s = concluded.restart_in_s or 0.0
        say(f"starting again in {pause_s:.0f} s: restart {concluded.used} of {concluded.allowed}")
        until = time.monotonic() + pause_s
        while time.monotonic() < until and not self._interrupts.stops:
            time.sleep(min(WAIT_STEP_S, max(0.0, until - time.monotonic())))
        return not self._interrupts.stops

    def _give_up(self, number: int) -> tuple[int, WorkerGroup, list[Line]]:
        """Return an attempt that was stopped before it began: the portal waits for one."""
        text = f"Not started again: {self._interrupts.name} was received before the restart."
        folder = attempt_of(self._folder, number)
        self._make(folder, [])
        record_ended(folder, Ended(rank=0, code=0, codes=[0] * self._launch.ranks, stopped=True))
        return number, WorkerGroup.adopted(folder, self._launch.ranks), [Line(text, "info")]

    def _start_next(self, number: int) -> tuple[int, WorkerGroup, list[Line]]:
        """Start the training in a new attempt after `number`."""
        lines: list[Line] = []
        folder = attempt_of(self._folder, number + 1)
        environment, resume = self._make(folder, lines)
        if resume is None and (origin := read_origin(self._folder)) is not None:
            # It must not begin at its first step instead.
            text = (
                f"The checkpoint {origin.name} of run {origin.run}, at which this training begins, is gone or damaged."
            )
            say(text)
            return number + 1, self._not_begun(folder, text, EXIT_FAILED), lines
        command = script_command(self._launch.script)
        ranks = self._launch.beside
        try:
            if ranks is None:
                group = start_worker_group(command, environment, folder, self._launch.ranks, self._parent)
            else:
                group, self._server = start_beside(command, environment, folder, self._data, ranks)
            return number + 1, group, lines
        except OSError as error:
            say(f"{command[0]} cannot be started: {error.strerror}.")
            code = EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE
            text = f"The program could not be started: {error.strerror}."
            return number + 1, self._not_begun(folder, text, code), lines

    def _not_begun(self, folder: Path, text: str, code: int) -> WorkerGroup:
        """Record that an attempt failed before its training began; return its processes, of which none lives."""
        if self._launch.beside is not None:
            tell_nothing_to_train(self._data, self._launch.beside, code)
        codes: list[int | None] = [code] * self._launch.ranks
        words = LastWords(outcome="failed", error=text)
        record_ended(folder, Ended(rank=0, code=code, codes=codes, last_words=words, may_restart=False))
        return WorkerGroup.adopted(folder, self._launch.ranks)

    def _make(self, folder: Path, lines: list[Line]) -> tuple[dict[str, str], ResumeFrom | None]:
        resume, knobs = newest_checkpoint(self._folder, lines)
        before = newest_attempt(self._folder)
        if before:
            knobs = knobs_after(attempt_of(self._folder, before), knobs)
        environment = make_attempt_folder(
            folder,
            self._data,
            APPLICATION.parent,
            resume=resume,
            changed_knobs=knobs,
            journal_mib=journal_bound_bytes(os.environ) >> 20,
        )
        write_identity(folder, self._launch.identity)
        write_removed(folder, remove_older(self._folder, None if resume is None else resume.folder, lines))
        return environment, resume

    def _follow_attempt(
        self, number: int, group: WorkerGroup, lines: Sequence[Line], earlier_within_s: float | None = None
    ) -> Result:
        """Follow an attempt to its end. With `earlier_within_s`, only store an earlier attempt within this time."""
        folder = attempt_of(self._folder, number)
        terminal = Terminal(read_place(folder), lambda: living_worker(folder, self._launch.ranks) is not None)
        wake = threading.Event()
        login = self._login
        link: PortalLink | NoLink = NoLink()
        if login is not None:
            link = PortalLink(login, lambda: self._place(login, number, terminal), terminal, wake.set)
        answers_within_s = self._launch.wait_s if earlier_within_s is None else earlier_within_s
        settings = HostSettings(
            data=self._data,
            application=APPLICATION,
            push_s=PUSH_S,
            stalled_s=STALLED_S,
            console_files_bytes=CONSOLE_FILES_BYTES,
            may_restart=not self._only_stores and earlier_within_s is None and not self._launch.of_caller,
            unanswered=UNANSWERED,
            answers_within_s=answers_within_s if login is not None else 0.0,
            removed_earlier=read_removed(folder).paths,
            why_ended=self._why_ended(earlier_within_s is not None),
        )
        host = HostSide(folder, group, link, terminal, self._interrupts, settings, wake, lines)
        link.start()
        try:
            host.follow()
        finally:
            link.stop()
            if self._server is not None and self._launch.beside is not None:
                close_node_server(
                    self._data, meeting(self._data, self._launch.beside), self._launch.beside, self._server
                )
                self._server = None
        if host.concluded is not None:
            write_concluded(folder, host.concluded)
        code = exit_code_of_program(host.ended(), host.concluded, self._interrupts.stops)
        return Result(code, is_stored=host.concluded is not None)

    def _why_ended(self, is_earlier: bool) -> Callable[[], SchedulerReason]:
        """Return the function that returns why Slurm ended an attempt. An earlier attempt was ended for this start."""
        return (lambda: self._slurm.why_again()) if is_earlier else self._slurm.why

    def _place(self, login: Login, number: int, terminal: Terminal) -> Place:
        """Return where an attempt is in the portal; open it if that has not happened. Raises `PortalError`."""
        folder = attempt_of(self._folder, number)
        known = read_place(folder)
        if known is not None:
            return known
        for earlier in range(1, number):
            # The portal numbers attempts in the order of the requests that open them.
            self._place(login, earlier, terminal)
        found = open_attempt(login, self._launch, number, self._data, APPLICATION, read_origin(self._folder))
        write_place(folder, found)
        terminal.opened(found)
        return found


def adopt(folder: Path, ranks: int, parent: int | None = None) -> tuple[WorkerGroup, list[Line]]:
    """Return the training of an attempt, alive or ended, whose host process has ended."""
    if living_worker(folder, ranks) is None and not close_attempt(folder, ranks):
        # It was started, and its host process was ended before it could record which process it is.
        for rank in range(ranks):
            holder = worker_lock_path(folder, rank).read_text().strip()
            if holder.isdigit():
                with contextlib.suppress(psutil.NoSuchProcess):
                    WorkerProcess.of(int(holder)).record(folder, rank)
    return WorkerGroup.adopted(folder, ranks, parent), [STARTED_AGAIN]


def take_lock(folder: Path, within_s: float) -> HeldLock | None:
    """Take the lock of a launch; wait up to `within_s` seconds for the process that followed the launch before."""
    until = time.monotonic() + within_s
    while (lock := try_lock(folder / LOCK_FILE)) is None and time.monotonic() < until:
        time.sleep(WAIT_STEP_S)
    return lock


def follow_launch(folder: Path, interrupts: Interrupts, store_within_s: float | None) -> int:
    """Follow a launch to its end, and write its result; return its exit code.

    Unless `store_within_s` is None, only the unsent records are stored, if the portal answers within this time.
    """
    launch = read_launch(folder)
    if store_within_s is not None:
        launch = replace(launch, wait_s=store_within_s)
    lock = take_lock(folder, EARLIER_ENDS_S if launch.identity and store_within_s is None else 0.0)
    if lock is None:
        say(f"another process already records the training in {folder}: this process ends")
        return EXIT_HELD
    is_first = not (folder / LOCK_FILE).stat().st_size
    lock.note(str(os.getpid()))
    only_stores = store_within_s is not None
    try:
        login = None
        if launch.portal or only_stores:
            login = login_to_use(launch.portal, os.environ)
        if login is not None and not launch.portal:
            # Later logins do not change the portal of this launch.
            launch = replace(launch, portal=login.address)
            write_launch(folder, launch)
        result = LaunchProcess(folder, launch, login, interrupts, only_stores=only_stores, is_first=is_first).follow()
    except (NoLogin, BadAddress) as error:
        say(str(error))
        result = Result(EXIT_BAD_INPUT, is_stored=False)
    write_result(folder, result)
    lock.release()
    return result.code


def main() -> int:
    folder = Path(sys.argv[1])
    logging.basicConfig(level=logging.WARNING, format="steersman: %(message)s")
    interrupts = Interrupts(os.environ.get(STOP_SIGNAL_VARIABLE, ""))
    interrupts.install()
    # The parent blocks these signals until this process has handlers for them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    return follow_launch(folder, interrupts, float(sys.argv[2]) if len(sys.argv) > 2 else None)


if __name__ == "__main__":
    sys.exit(main())
