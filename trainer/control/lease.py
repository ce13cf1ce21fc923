"""The holder of a run: the lock on this host, a holder on another host, or the attempt on this host, alive or dead."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone

from runs.models import Attempt, Run
from runs.recording.lifecycle import SILENT_AFTER_S, AttemptEnd, Fenced, Holder, Lease, adopt_attempt
from runs.recording.liveness import write_watch
from runs.recording.record_side.console_bound import ConsoleBound
from runs.recording.record_side.store import RecordSide
from steersman.agent.folders import attempt_folder, boot_id, close_attempt, host_name, living_worker, run_folder
from steersman.agent.host_side.console_files import ConsoleFiles
from steersman.agent.journals.consoles import Consoles
from steersman.agent.journals.merged import Journals
from steersman.agent.journals.supervisor_deaths import CarefulReader
from steersman.agent.launch.ended_file import recorded_ended
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_HELD, EXIT_INTERRUPTED
from steersman.files.locks import HeldLock, try_lock
from steersman.files.private import make_private
from steersman.messages.ended import Ended
from steersman.messages.errors import one_line
from steersman.messages.reports import Line
from trainer.control.exit_status import judge, name_rank, redacted
from trainer.control.restart import can_start_again, conclude, ending_commands

# `watch` holds the lock for a moment when it checks whether it is free.
LOCK_PATIENCE_S = 0.2


class CannotTrain(Exception):
    """The training cannot start. `exit_code` is the reason for scripts, the text says what to do."""

    def __init__(self, message: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def came_before(run_id: int, interrupts: Interrupts) -> str:
    return f"run {run_id}: {interrupts.name} was received before the training began."


def myself() -> Holder:
    return Holder(host=host_name(), boot_id=boot_id(), pid=os.getpid())


def take_lease(run: Run, interrupts: Interrupts) -> HeldLock:
    """Take the run's supervisor lock on this host, and check that no other host holds the run.

    Raises `CannotTrain` if the run is held.
    """
    folder = make_private(run_folder(settings.STEERSMAN_DATA, run.pk))
    until = time.monotonic() + LOCK_PATIENCE_S
    while (lock := try_lock(folder / "supervisor.lock")) is None and time.monotonic() < until:
        time.sleep(0.02)
    attempt = run.attempts.filter(ended_at=None).order_by("-number").first()
    if lock is None:
        raise CannotTrain(_held_by(run, attempt), EXIT_HELD)
    run.refresh_from_db()
    attempt = run.attempts.filter(ended_at=None).order_by("-number").first()
    try:
        if attempt is not None and not is_of_this_host(attempt) and _sends_heartbeats(run, interrupts):
            raise CannotTrain(_held_by(run, attempt), EXIT_HELD)
    except BaseException:
        lock.release()
        raise
    return lock


def is_of_this_host(attempt: Attempt) -> bool:
    """Return whether the attempt's files are here: two people may train on one host, each with a data folder."""
    folder = attempt_folder(settings.STEERSMAN_DATA, attempt.run_id, attempt.number)
    return attempt.host == host_name() and folder.is_dir()


def _held_by(run: Run, attempt: Attempt | None) -> str:
    if attempt is None:
        return f"run {run.pk} is held by another process that is just starting or ending; try again in a moment."
    return (
        f"run {run.pk} is held by attempt {attempt.number}: process {attempt.supervisor_pid} on {attempt.host}, "
        f"since {timezone.localtime(attempt.started_at):%Y-%m-%d %H:%M:%S}. Stop it on that host, or from the portal."
    )


def _sends_heartbeats(run: Run, interrupts: Interrupts) -> bool:
    """Return whether a holder on another host sends heartbeats, by watching its counter with our clock.

    Time in which the database takes no heartbeats does not count. Raises `CannotTrain` if a signal ends the watching.
    """
    until = time.monotonic() + SILENT_AFTER_S
    while time.monotonic() < until:
        time.sleep(0.5)
        if not write_watch.look():
            until = time.monotonic() + SILENT_AFTER_S
        if interrupts.stops:
            raise CannotTrain(came_before(run.pk, interrupts), EXIT_INTERRUPTED)
        if Run.objects.values_list("heartbeat", flat=True).get(pk=run.pk) != run.heartbeat:
            return True
    return False


def adoptable(run: Run, start: str, *, torchrun: bool) -> Lease | None:
    """Return the lease of a live worker without a supervisor; close an attempt whose worker is dead too."""
    attempt = run.attempts.filter(ended_at=None).order_by("-number").first()
    if attempt is None or run.attempt != attempt.number:
        return None
    if not is_of_this_host(attempt):
        return None
    folder = attempt_folder(settings.STEERSMAN_DATA, run.pk, attempt.number)
    if attempt.boot_id == boot_id() and living_worker(folder, attempt.ranks) is not None:
        if torchrun:
            raise CannotTrain(f"{_held_by(run, attempt)} torchrun cannot take over that attempt.", EXIT_HELD)
        if start:
            raise CannotTrain(f"from: run {run.pk} is training; stop it, then start it again with --from.", EXIT_HELD)
        try:
            return adopt_attempt(attempt, myself())
        except Fenced as error:
            raise CannotTrain(f"run {run.pk}: {error}; try again.", EXIT_HELD) from error
    if not close_attempt(make_private(folder), attempt.ranks):
        # It is alive and holds its lock, but its supervisor died before it could record the process.
        raise CannotTrain(
            f"run {run.pk}: a training process of attempt {attempt.number} is running, but its process id was not "
            f"recorded. Find the id with `lsof {folder}/worker-*.lock`, end that process and try again.",
            EXIT_HELD,
        )
    lease = Lease(run_id=run.pk, attempt_id=attempt.pk, number=attempt.number)
    conclude(lease, store_leftovers(lease, folder), may_restart=can_start_again(folder))
    run.refresh_from_db()
    return None


def store_leftovers(lease: Lease, folder: Path) -> AttemptEnd:
    """Store the remaining journal and console of a dead attempt; return how it ended."""
    redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
    reporter = Reporter(RecordSide(lease, of_the_dead=True), folder, redactor, StoredProgress())
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    attached = reporter.attach()
    journals = Journals(folder, attached.positions, attached.last_steps)
    consoles = Consoles(folder, attached.console_offsets)
    reader = CarefulReader(folder, journals)
    if (deadly := reader.start(ended=True)) is not None:
        reporter.set_aside(deadly.read, deadly.error)
        journals.advance(deadly.read)
    while (read := reader.read(ended=True)) is not None:
        try:
            reporter.store(Tick(read=read))
        except (Fenced, DatabaseError, OSError):
            raise
        except Exception as error:
            reader.record_death(one_line(error))
            raise
        journals.advance(read)
    group = WorkerGroup.adopted(folder, attempt.ranks)
    group.poll_alive()
    known = recorded_ended(folder)
    worker = group.root_cause() if known is None else group.workers[min(known.rank, len(group.workers) - 1)]
    end_record = group.end_record(worker)
    text = "The supervisor of this attempt died with its worker; their remaining records are stored now."
    line = Line(text, "warning")
    reporter.store(Tick(console=consoles.read(ended=True), lines=[line]))
    ConsoleBound(lease.run_id).look(ended=True)
    ConsoleFiles(folder, attempt.ranks, settings.STEERSMAN_CONSOLE_FILES_MIB << 20).end()
    # Only the parent of a process gets its exit status: if no process recorded it, it is unknown.
    ended = known or Ended(rank=worker.rank, code=worker.code, rebooted=worker.was_before_reboot)
    end = judge(ended, end_record, by_command=known is not None and bool(ending_commands(lease)))
    if attempt.ranks > 1:
        end = name_rank(end, worker.rank)
    return redacted(end if known else replace(end, exit_code=None, signal=""), redactor)
