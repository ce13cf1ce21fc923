"""The supervisor: holds the lease of a run, follows its worker, stores its records. Never imports torch."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from runs.models import Attempt, Command, CommandState, RunState
from runs.protocol.commands import Stop
from runs.recording import announcer
from runs.recording.feed import announce_heartbeat
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S, AttemptEnd, Fenced, Lease, renew_lease
from runs.recording.record_side.continuing import Superseded
from runs.recording.record_side.folding import Folding
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.consoles import Consoles
from steersman.agent.journals.empty_record import reproach
from steersman.agent.journals.merged import Journals
from steersman.agent.journals.supervisor_deaths import CarefulReader
from steersman.agent.launch.ended_file import record_ended
from steersman.agent.launch.given_devices import device_there
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.out_of_memory import OomKills
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.stall_report import StallReport
from steersman.agent.reporting.ticks import Tick
from steersman.agent.supervise.collector import collect_rarely
from steersman.agent.supervise.forced_exit import AWAY, RECORD_END_TIMEOUT_S, ForcedExit
from steersman.agent.supervise.heartbeat import HeartbeatThread
from steersman.agent.supervise.interrupts import Interrupts
from steersman.agent.supervise.posting import Posting
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_FENCED, EXIT_FINISHED, EXIT_INTERRUPTED
from steersman.files.mailbox import Mailbox
from steersman.messages.ended import Ended
from steersman.messages.errors import one_line
from steersman.messages.reports import Attached, Line
from steersman.records.kinds import PointRecord
from trainer.alerts.judging import Batch
from trainer.alerts.thread import AlertThread
from trainer.control.command_dispatch import CommandDispatch
from trainer.control.console_keeping import ConsoleKeeping
from trainer.control.database_state import DatabaseReplaced, DatabaseState
from trainer.control.deaf_training import DeafTraining
from trainer.control.display import Display
from trainer.control.exit_status import judge, name_rank, redacted
from trainer.control.restart import conclude, ending_commands
from trainer.control.sampling import Sampling

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

TICK_INTERVAL_S = 0.010
CONSOLE_INTERVAL_S = 0.25
# A database that is away is asked again after this; the journal keeps everything meanwhile.
DATABASE_PAUSE_S = 0.5
# A supervisor that was suspended for longer than this between two ticks may no longer hold the run.
LONGEST_TICK_GAP_S = 3.0


SIGTERM_IS_IGNORED = (
    "SIGTERM was received, but the training does not read run.stopping: it is ended without a checkpoint."
)
PROCESS_IS_ENDED = "A command ends the process: SIGTERM now, and SIGKILL 10 s later if it is still running."


class DatabaseGone(Exception):
    """The database did not come back while somebody waits for this process to end."""


class Supervisor:
    """Follows one attempt to its end."""

    def __init__(
        self,
        lease: Lease,
        folder: Path,
        group: WorkerGroup,
        display: Display,
        interrupts: Interrupts,
        lines: Sequence[Line] = (),
    ) -> None:
        self.lease = lease
        self.folder = folder
        self.group = group
        self.display = display
        self.progress = StoredProgress()
        self.interrupts = interrupts
        self._redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
        self._reporter = Reporter(RecordSide(lease), folder, self._redactor, self.progress)
        attempt = Attempt.objects.select_related("run").get(pk=lease.attempt_id)
        attached = self._attach()
        self._console_keeping = ConsoleKeeping(lease.run_id, folder, attempt.ranks)
        self._mailbox = Mailbox(folder)
        self._mailbox.settle()
        self._outcomes = self._mailbox.outcomes
        self._posting = Posting(self._mailbox, interrupts, display.say)
        self._dispatch = CommandDispatch(lease, self._posting, group, interrupts)
        self._wake = threading.Event()
        self._heart = HeartbeatThread(self._mailbox, self._tell_of_life)
        self._stall = StallReport(attached, settings.STEERSMAN_STALLED_S)
        self._is_recipe = attempt.run.recipe_id is not None
        device = device_there(attempt.run.device, os.environ) if self._is_recipe else "auto"
        self._sampling = Sampling(group, settings.STEERSMAN_DATA, device)
        self._oom_kills = OomKills(group.pids[0] if group.pids else os.getpid())
        self._resumes = attempt.resumed_step is not None or attempt.adoptions > 0
        self._alerts = AlertThread(lease, self._redactor)
        self._pending_lines = list(lines)
        self._last_store = 0.0
        self._last_heartbeat = 0.0
        self._ticked_at = time.monotonic()
        self._last_console = 0.0
        self._folding = Folding(lease.run_id)
        self._database = DatabaseState(lease.run_id)
        self._forced_exit = ForcedExit(interrupts, group, lambda: self._ticked_at, self._posting.post_stop)
        self._deaf = DeafTraining(lease, folder, self._mailbox, group, self._warn)

    def _attach(self) -> Attached:
        """Begin a session, and read journals and consoles from where they are stored."""
        attached = self._reporter.attach()
        self._journals = Journals(self.folder, attached.positions, attached.last_steps)
        self._reader = CarefulReader(self.folder, self._journals)
        self._consoles = Consoles(self.folder, attached.console_offsets)
        return attached

    def follow(self) -> int:
        """Follow the worker until it has ended and all that it wrote is stored; return the exit code of `train`."""
        collect_rarely()
        self._heart.start()
        self._sampling.start()
        self._forced_exit.start()
        self._console_keeping.start()
        self._alerts.start(resumes=self._resumes)
        announcer.current().listen(f"owner.{self.lease.run_id}", self._heard_command)
        try:
            self._wait_for_database(lambda: self._reader.start(self._reporter.set_aside))
            while self.group.poll_alive():
                self._wake.wait(TICK_INTERVAL_S)
                self._wake.clear()
                self._tick()
            return self._finish()
        except Superseded as error:
            logger.error("%s: this supervisor writes nothing more, and leaves the training to it", error)
            return EXIT_FENCED
        except Fenced as error:
            logger.error("%s: this supervisor writes nothing more and ends its worker", error)
            # Not a signal that it could answer with a checkpoint.
            self.group.kill(signal.SIGKILL)
            return EXIT_FENCED
        except DatabaseGone:
            self.display.say(AWAY)
            return EXIT_INTERRUPTED
        except DatabaseReplaced as error:
            logger.error("%s", error)
            return EXIT_FAILED
        except Exception as error:
            self._reader.record_death(one_line(error))
            raise
        finally:
            self._forced_exit.stop()
            self._alerts.finish(0.0)
            self._heart.stop()
            self._console_keeping.stop()
            self._sampling.stop()
            self.display.close()
            announcer.current().flush(2.0)

    def _heard_command(self, message: dict[str, Any]) -> None:
        self._dispatch.command_waits = True
        self._wake.set()

    def _tick(self) -> None:
        """One look: signals, commands, journal, console, heartbeat. A database that is away costs time, not data."""
        now = time.monotonic()
        suspended = now - self._ticked_at > LONGEST_TICK_GAP_S
        try:
            self._database.look()
            if suspended:
                # Before anything is written, even into files of our own.
                renew_lease(self.lease)
            heartbeat_due = now - self._last_heartbeat >= HEARTBEAT_INTERVAL_S
            self._dispatch.dispatch(heartbeat_due)
            self._deaf.look(now, self._stall.watch.allowed_s)
            if self._posting.ended_by:
                self._deaf.end(PROCESS_IS_ENDED, now)
            elif self._posting.stop_is_ignored(self._stall.watch.allowed_s):
                # Without a supervisor SIGTERM would have ended it.
                self._deaf.end(SIGTERM_IS_IGNORED, now)
            push_due = now - self._last_store >= settings.STEERSMAN_PUSH_MS / 1000 or self._outcome_waits()
            has_news = self._reporter.under_way or self._journals.has_more()
            if heartbeat_due or (push_due and (has_news or now - self._last_console >= CONSOLE_INTERVAL_S)):
                self._store(heartbeat_due)
                self._console_keeping.bound_text()
            self._folding.look()
            self._database.note_back()
        except (DatabaseError, OSError) as error:
            self._database.note_away(error, "the journal keeps what is logged")
            # A connection that broke is opened anew.
            connection.close()
            time.sleep(DATABASE_PAUSE_S)
        finally:
            self._ticked_at = time.monotonic()

    def _tell_of_life(self) -> None:
        """Send a heartbeat by the channel layer while none can be written into the database. Called by a thread."""
        if time.monotonic() - self._last_store > 2 * HEARTBEAT_INTERVAL_S:
            announce_heartbeat(self.lease.run_id, self.lease.number)

    def _warn(self, text: str) -> None:
        """Tell people at the terminal, and viewers with the next tick."""
        self._pending_lines.append(Line(text, "warning"))
        self.display.say(text)

    def _outcome_waits(self) -> bool:
        """Return whether a command has its outcome: whoever asked waits for it, and not for the next tick."""
        before, self._outcomes = self._outcomes, self._mailbox.outcomes
        return self._outcomes != before

    def _store(self, heartbeat: bool) -> None:
        """Store what was under way when the database went away, or else what journal, console and sampler have."""
        tick = self._reporter.under_way or self._gather(heartbeat)
        if tick is not None:
            self._hand_over(tick)
            self._last_store = time.monotonic()
            self.display.show(self.progress)

    def _gather(self, heartbeat: bool) -> Tick | None:
        """Return what is to be stored next, None where nothing is."""
        now = time.monotonic()
        self._pending_lines += self._alerts.take_lines() + self._console_keeping.take_lines()
        tick = Tick(lines=self._pending_lines)
        if self._journals.has_more():
            tick.read = self._reader.read()
        if tick.read is not None:
            self._stall.watch.note(tick.read.records)
            self._deaf.note(tick.read.records)
        if now - self._last_console >= CONSOLE_INTERVAL_S:
            self._last_console = now
            tick.console = self._consoles.read()
        if heartbeat:
            self._last_heartbeat = now
            self._oom_kills.has_killed()
            self._sampling.put(tick)
            self._stall.put(tick, now)
            tick.backlog_bytes = self._journals.backlog_bytes(tick.read)
        if tick.read is None and tick.console is None and not heartbeat:
            return None
        self._pending_lines = []
        return tick

    def _hand_over(self, tick: Tick) -> bool:
        """Store a tick and go on behind it; return False where the database holds less than was stored before.

        Then that is read again: a database server that failed over may have lost its last commits.
        """
        stored = self._reporter.store(tick)
        if self._reporter.under_way:
            logger.warning("the database holds %d reports of this attempt: reading on from there", stored.number)
            self._pending_lines = tick.lines + self._pending_lines
            self._attach()
            return False
        self._settle(tick)
        self._stall.settle(tick)
        return True

    def _settle(self, tick: Tick) -> None:
        records = tick.read.records if tick.read is not None else []
        self._alerts.take(
            Batch(
                records,
                tick.system or {},
                self.progress.step,
                time.time(),
                stalled=self._stall.is_stalled,
                by_rank=tick.read.by_rank if tick.read is not None else (),
            )
        )
        if tick.read is not None:
            self._journals.advance(tick.read)
            points = (record for record in tick.read.records if isinstance(record, PointRecord))
            self._folding.note(sum(len(point.values) for point in points))
        self._console_keeping.take(tick)
        if tick.console is not None:
            self._consoles.advance(tick.console)
            self.display.console(tick.console.lines)
            if tick.console.unfinished is not None:
                self.display.unfinished(tick.console.unfinished)
        self._sampling.watch(self.progress.environment.get("gpu_uuids") or [])

    def _finish(self) -> int:
        """Store what the worker left, record how it ended, and return the exit code."""
        ended = self._note_end()
        self._wait_for_database(self._dispatch.record_signals)
        self._tell_of_silence()
        self._wait_for_database(self._store_rest)
        self._alerts.finish()
        self._pending_lines += self._alerts.take_lines()
        self._wait_for_database(self._store_rest)
        end = self._wait_for_database(lambda: self._judge_end(ended))
        self._wait_for_database(lambda: conclude(self.lease, end))
        self._wait_for_database(self._folding.fold_all_but_the_newest)
        self._wait_for_database(lambda: self._console_keeping.bound_text(ended=True))
        self._console_keeping.end()
        self.display.end(self.progress, end)
        if self._posting.ended_by:
            self.display.say(f"ended by {self._posting.ended_by}")
        if self.interrupts.stops >= 2:
            return EXIT_INTERRUPTED
        if end.outcome == RunState.FAILED:
            return EXIT_BAD_INPUT if end.exit_code == EXIT_BAD_INPUT else EXIT_FAILED
        return EXIT_FINISHED

    def _tell_of_silence(self) -> None:
        """Say so where a script ended well without one record: it looks as if all were in order."""
        ended_well = not any(self.group.has_failed(worker) for worker in self.group.workers)
        if not self._is_recipe and ended_well and (text := reproach(self.folder)):
            self._warn(text)

    def _store_rest(self) -> None:
        while not all(map(self._hand_over, self._rest())):
            continue

    def _rest(self) -> Iterator[Tick]:
        """Yield what is left to store, the next tick when the one before is stored."""
        if self._reporter.under_way:
            yield self._reporter.under_way
        while (read := self._reader.read(ended=True)) is not None:
            yield Tick(read=read)
        tick = Tick(lines=self._pending_lines, console=self._consoles.read(ended=True))
        self._pending_lines = []
        self._sampling.put_gpus(tick)
        yield tick

    def _wait_for_database(self, work: Callable[[], Result]) -> Result:
        since: float | None = None
        while True:
            self._ticked_at = now = time.monotonic()
            try:
                self._database.look()
                done = work()
                self._database.note_back()
                return done
            except (DatabaseError, OSError) as error:
                since = now if since is None else since
                self._database.note_away(error, "waiting")
                connection.close()
            if self.interrupts.stops >= 2:
                self.group.kill(signal.SIGKILL)
                raise DatabaseGone
            if self.interrupts.is_terminated and now - since > RECORD_END_TIMEOUT_S:
                raise DatabaseGone
            time.sleep(DATABASE_PAUSE_S)

    def _note_end(self) -> Ended:
        """Return how the training has ended, written down: the database may be away for longer than this process."""
        worker = self.group.root_cause()
        ended = Ended(
            rank=worker.rank,
            code=worker.code,
            stopped=self.interrupts.stops >= 1,
            interrupted=self.interrupts.stops >= 2,
            oom_kill=self._oom_kills.has_killed(),
            last_line=self._redactor.text(self._consoles.last_line(worker.rank)),
        )
        try:
            record_ended(self.folder, ended)
        except OSError as error:
            logger.warning("the end of the training could not be written (%s)", error.strerror)
        return ended

    def _judge_end(self, ended: Ended) -> AttemptEnd:
        worker = self.group.workers[ended.rank]
        ended = replace(
            ended,
            stopped=self.interrupts.stops >= 1 or self._stop_was_applied(),
            interrupted=self.interrupts.stops >= 2,
        )
        end_record = self.group.end_record(worker) or (self.progress.end if worker.rank == 0 else None)
        end = judge(ended, end_record, by_command=bool(ending_commands(self.lease)))
        if len(self.group.workers) > 1:
            end = name_rank(end, worker.rank)
        return redacted(end, self._redactor)

    def _stop_was_applied(self) -> bool:
        return Command.objects.filter(
            run_id=self.lease.run_id, attempt=self.lease.number, kind=Stop.kind, state=CommandState.APPLIED
        ).exists()
