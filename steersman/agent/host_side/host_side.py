"""The host side of a supervisor: follows the processes of one attempt to their end. No Django, no torch.

Signals, the terminal and the end depend on this side alone: it waits for the record side only at the end.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from steersman.agent.host_side.console_files import ConsoleFiles
from steersman.agent.host_side.endings import GivenUp, Patience, describe_end, exit_code_of, note_end
from steersman.agent.host_side.exchange import Behind, Cut, Exchange, Lost, News, Settled
from steersman.agent.host_side.sampling import Sampling
from steersman.agent.host_side.surroundings import Display, HostSettings
from steersman.agent.host_side.unresponsive_training import PROCESS_IS_ENDED, SIGTERM_IS_IGNORED, UnresponsiveTraining
from steersman.agent.journals.consoles import Consoles
from steersman.agent.journals.empty_record import reproach
from steersman.agent.journals.merged import Journals
from steersman.agent.journals.supervisor_deaths import CarefulReader
from steersman.agent.journals.tail import LARGEST_READ_BYTES
from steersman.agent.launch.ended_file import recorded_ended
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.out_of_memory import OomKills
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.report_sequence import ReportSequence, StoredProgress
from steersman.agent.reporting.stall_report import StallReport
from steersman.agent.reporting.ticks import Tick
from steersman.agent.supervise.collector import collect_rarely
from steersman.agent.supervise.heartbeat import HeartbeatThread
from steersman.agent.supervise.interrupts import Interrupts
from steersman.agent.supervise.posting import Posting
from steersman.exit_codes import EXIT_FENCED, EXIT_INTERRUPTED
from steersman.files.mailbox import Mailbox
from steersman.messages.ended import Concluded, Ended, Fenced
from steersman.messages.errors import one_line
from steersman.messages.link import Link, RecordSideClosed
from steersman.messages.orders import EndProcess, Post
from steersman.messages.reports import Attached, Line

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.010
CONSOLE_INTERVAL_S = 0.25
REPORT_HEARTBEAT_INTERVAL_S = 1.0
# A supervisor that was suspended for longer than this between two passes may have lost the run.
LONGEST_LOOK_GAP_S = 3.0
# After a suspension, the training gets no command until the record side has accepted a report, but at most this long.
WOKEN_PATIENCE_S = 5.0
# A signal waits for that at most this long, because a supervisor that was replaced must not control the training.
SIGNAL_PATIENCE_S = 1.0


class HostSide:
    """Follows one attempt; `wake` is set when a message for it has arrived."""

    _journals: Journals
    _reader: CarefulReader
    _consoles: Consoles

    def __init__(
        self,
        folder: Path,
        group: WorkerGroup,
        link: Link,
        display: Display,
        interrupts: Interrupts,
        settings: HostSettings,
        wake: threading.Event,
        lines: Sequence[Line] = (),
    ) -> None:
        self._folder, self._group, self._display, self._interrupts = folder, group, display, interrupts
        self._settings, self._wake = settings, wake
        self._redactor = Redactor(settings.data, settings.application)
        self.progress = StoredProgress()
        self._exchange = Exchange(link, ReportSequence(folder, self._redactor, self.progress, settings.removed_earlier))
        self._mailbox = Mailbox(folder)
        self._mailbox.settle()
        self._outcomes = self._mailbox.outcomes
        self._posting = Posting(self._mailbox, interrupts, display.say)
        self._heart = HeartbeatThread(self._mailbox)
        self._sampling = Sampling(group, folder, settings.data, settings.device)
        self._console_files = ConsoleFiles(folder, len(group.workers), settings.console_files_bytes)
        self._oom_kills = OomKills(group.pids[0] if group.pids else os.getpid())
        # Set when the record side has answered with its position.
        self._stall: StallReport | None = None
        self._deaf: UnresponsiveTraining | None = None
        self._pending_lines = list(lines)
        self._deadly: Tick | None = None
        # Orders, each with its time of arrival.
        self._orders: deque[tuple[Post | EndProcess, float]] = deque()
        self._disk_refuses = False
        self._is_urgent = False
        self._sessions = 0
        self._is_overtaken = False
        self._superseded: Fenced | None = None
        # What an earlier host side of this attempt saw, and what the record side has concluded.
        self._known_end = recorded_ended(folder)
        self.concluded: Concluded | None = None
        self._looked_at = time.monotonic()
        # When it was last suspended, and since when a signal waits for delivery.
        self._woken_at = 0.0
        self._signal_at: float | None = None
        # When the last accepted report was sent: up to then, no other attempt held the run.
        self._proven_at = 0.0
        self._settled_at = self._heartbeat_at = self._console_at = 0.0

    def follow(self) -> int:
        """Follow the training until it has ended and all its records are stored; return the exit code of `train`.
        Raises `RecordSideClosed` if nothing more can be stored; the training then continues."""
        collect_rarely()
        self._heart.start()
        self._sampling.start()
        self._console_files.start()
        try:
            self._exchange.attach(self._posting.posted, time.monotonic())
            while self._group.poll_alive() and self._superseded is None:
                self._wake.wait(LOOK_INTERVAL_S)
                self._wake.clear()
                self._look(time.monotonic())
            return self._finish() if self._superseded is None else self._leave(self._superseded)
        except GivenUp:
            self._display.say(self._settings.unanswered)
            return EXIT_FENCED if self._is_overtaken else EXIT_INTERRUPTED
        except RecordSideClosed:
            raise
        except Exception as error:
            if self._sessions:
                self._reader.record_death(one_line(error))
            raise
        finally:
            self._heart.stop()
            self._console_files.stop()
            self._sampling.stop()
            self._display.close()

    def _leave(self, fenced: Fenced) -> int:
        logger.error("%s: this supervisor stops recording, and does not end the training", fenced.reason)
        return EXIT_FENCED

    def _look(self, now: float) -> None:
        """Do one pass: messages, signals, commands, journal, console, heartbeat."""
        if now - self._looked_at > LONGEST_LOOK_GAP_S:
            self._woken_at = now
        self._looked_at = now
        self._take_news(now)
        if self._interrupts.stops >= 2:
            self._group.kill(signal.SIGKILL)
        elif not self._is_overtaken and self._is_proven(self._woken_at, WOKEN_PATIENCE_S, now):
            self._hand_on(now)
            self._watch_deafness(now)
        self._report(now)

    def _is_proven(self, since: float, patience_s: float, now: float) -> bool:
        """Return whether no other attempt held the run after `since`; assume so after `patience_s` seconds."""
        return self._proven_at >= since or now - since > patience_s

    def _take_news(self, now: float) -> None:
        for news in self._exchange.poll(now):
            self._take(news, now)

    def _take(self, news: News, now: float) -> None:
        match news:
            case Attached():
                self._begin(news)
            case Settled():
                self._settle(news, now)
            case Lost():
                self._pending_lines = news.tick.lines + self._pending_lines
            case Behind():
                logger.warning("the database has lost all reports after report %d: sending them again", news.number)
                self._exchange.attach(self._posting.posted, now)
            case Cut():
                self._exchange.attach(self._posting.posted, now)
            case Post() | EndProcess():
                self._orders.append((news, now))
            case Fenced(overtaken=True):
                logger.error(
                    "%s: ending the training of this attempt, and storing the rest of its journal", news.reason
                )
                self._is_overtaken = True
                self._group.kill_overtaken()
            case Fenced():
                self._superseded = news
            case Concluded():
                self.concluded = news

    def _begin(self, attached: Attached) -> None:
        """Read journals and consoles from the position up to which they are stored."""
        self._sessions += 1
        self._sampling.attach()
        self._journals = Journals(self._folder, attached.positions, attached.last_steps)
        self._reader = CarefulReader(self._folder, self._journals)
        self._consoles = Consoles(self._folder, attached.console_offsets)
        deadly = self._reader.start()
        self._deadly = None if deadly is None else Tick(read=deadly.read, deadly=deadly.error)
        if self._stall is None:
            self._stall = StallReport(attached, self._settings.stalled_s)
            is_reported = attached.is_not_looking
            self._deaf = UnresponsiveTraining(
                self._folder, self._mailbox, self._group, self._warn, is_reported=is_reported
            )

    def _hand_on(self, now: float) -> None:
        """Deliver commands and signals to the training. A full disk refuses only commands."""
        try:
            while self._orders:
                self._posting.obey(*self._orders[0])
                self._orders.popleft()
            self._hand_on_signals(now)
            self._disk_refuses = False
        except OSError as error:
            if not self._disk_refuses:
                logger.warning("commands cannot be delivered to the training (%s): trying again", error.strerror)
            self._disk_refuses = True

    def _hand_on_signals(self, now: float) -> None:
        if not self._posting.signals_wait:
            self._signal_at = None
        elif self._signal_at is None:
            self._signal_at = now
        elif self._is_proven(self._signal_at, SIGNAL_PATIENCE_S, now):
            self._posting.post_signals()

    def _watch_deafness(self, now: float) -> None:
        allowed_s = self._stall.watch.allowed_s if self._stall is not None else self._settings.stalled_s
        if self._deaf is None:
            return
        self._deaf.look(now, allowed_s)
        if self._posting.ended_by:
            self._deaf.end(PROCESS_IS_ENDED, now)
        elif self._posting.stop_is_ignored(allowed_s):
            # Without a supervisor, SIGTERM would have ended it.
            self._deaf.end(SIGTERM_IS_IGNORED, now)

    def _warn(self, text: str) -> None:
        """Print messages to the terminal, and send them to viewers with the next report."""
        self._pending_lines.append(Line(text, "warning"))
        self._display.say(text)

    def _report(self, now: float) -> None:
        """Send a report if one is due and the previous one is answered."""
        before, self._outcomes = self._outcomes, self._mailbox.outcomes
        # The author of a command waits for its outcome, so send it at once.
        self._is_urgent = self._is_urgent or self._outcomes != before or bool(self._posting.asked)
        if not self._exchange.is_idle:
            return
        is_heartbeat = now - self._heartbeat_at >= REPORT_HEARTBEAT_INTERVAL_S or self._signal_at is not None
        push_s = self._exchange.report_every_s or self._settings.push_s
        push_due = now - self._settled_at >= push_s or self._is_urgent
        has_news = self._is_urgent or self._journals.has_more() or now - self._console_at >= CONSOLE_INTERVAL_S
        if is_heartbeat or (push_due and has_news):
            self._is_urgent = False
            tick = self._gather(is_heartbeat, now)
            if tick is not None:
                self._exchange.report(tick, now)

    def _gather(self, is_heartbeat: bool, now: float) -> Tick | None:
        """Return the tick to store next, None if there is nothing to store."""
        self._pending_lines += self._console_files.take_lines()
        tick = self._next_read() or Tick()
        if tick.read is not None and not tick.deadly and self._stall is not None and self._deaf is not None:
            self._stall.watch.note(tick.read.records)
            self._deaf.note(tick.read.records)
            self._sampling.note(tick.read.by_rank)
        if now - self._console_at >= CONSOLE_INTERVAL_S:
            self._console_at = now
            tick.console = self._consoles.read()
        if is_heartbeat:
            self._put_heartbeat(tick, now)
        tick.asked, tick.posted = tuple(self._posting.asked), tuple(self._posting.untold)
        if tick.read is None and tick.console is None and not is_heartbeat and not tick.asked:
            return None
        tick.lines, self._pending_lines = self._pending_lines + tick.lines, []
        return tick

    def _next_read(self, ended: bool = False) -> Tick | None:
        """Return the next records as a tick, None if there are none; first come those at which a supervisor crashed."""
        if self._deadly is not None:
            tick, self._deadly = self._deadly, None
            return tick
        read = self._reader.read(ended) if ended or self._journals.has_more() else None
        return None if read is None else Tick(read=read)

    def _put_heartbeat(self, tick: Tick, now: float) -> None:
        self._heartbeat_at = now
        self._oom_kills.has_killed()
        self._sampling.put(tick)
        if self._stall is not None and self._deaf is not None:
            self._stall.put(tick, now)
            self._deaf.put(tick, now)
        tick.backlog_bytes = self._journals.backlog_bytes(tick.read)

    def _settle(self, settled: Settled, now: float) -> None:
        """Continue after a stored tick."""
        tick = settled.tick
        self._proven_at = settled.sent_at
        self._settled_at = now
        if tick.read is not None:
            self._journals.advance(tick.read)
            # During a burst, a pause between two full reports would limit the rate at which points are stored.
            self._is_urgent = self._is_urgent or self._journals.backlog_bytes(None) >= LARGEST_READ_BYTES
        if tick.console is not None:
            self._consoles.advance(tick.console)
            self._display.console(tick.console.lines)
            if tick.console.unfinished is not None:
                self._display.unfinished(tick.console.unfinished)
        if self._stall is not None and self._deaf is not None:
            self._stall.settle(tick)
            self._deaf.settle(tick)
        self._posting.settle(tick.asked, tick.posted)
        self._sampling.settle(tick)
        self._sampling.watch(self.progress.environment.get("gpu_uuids") or [])
        self._display.show(self.progress)

    def _finish(self) -> int:
        """Have the last records and the outcome of the training stored; return the exit code."""
        note_end(self._folder, self.ended())
        self._warn_of_empty_record()
        while not self._is_over():
            self._await(lambda: self._exchange.is_idle)
            if not self._is_over() and self._store_rest():
                self._exchange.send_end(self.ended())
                self._await_conclusion()
        if self._superseded is not None:
            return self._leave(self._superseded)
        self._console_files.end()
        if self._is_overtaken or self.concluded is None:
            return EXIT_FENCED
        self._display.end(self.progress, self.concluded)
        if self._posting.ended_by:
            self._display.say(f"ended by {self._posting.ended_by}")
        return exit_code_of(self.concluded, self._interrupts.stops)

    def _is_over(self) -> bool:
        """Return whether the end is recorded, or another supervisor follows the training."""
        return self.concluded is not None or self._superseded is not None

    def _await_conclusion(self) -> None:
        """Wait until the end is recorded, or a new session has begun, which gets the missing parts again."""
        sessions = self._sessions
        self._await(lambda: self.concluded is not None or self._sessions != sessions)

    def _warn_of_empty_record(self) -> None:
        """Warn if a script succeeded without a single record, because it would look as if everything worked."""
        ended_well = not any(self._group.has_failed(worker) for worker in self._group.workers)
        if not self._settings.is_recipe and ended_well and (text := reproach(self._folder)):
            self._warn(text)

    def _store_rest(self) -> bool:
        """Report the remaining records; return False if less is stored than before, and they must be read again."""
        while (tick := self._next_read(ended=True)) is not None:
            if not self._store(tick):
                return False
        tick = Tick(lines=self._pending_lines, console=self._consoles.read(ended=True))
        self._pending_lines = []
        self._sampling.put_gpus(tick)
        return self._store(tick)

    def _store(self, tick: Tick) -> bool:
        """Report a tick and wait for the answer; return whether it is stored."""
        # The commands of signals enter the command log before the records of their outcomes.
        tick.asked, tick.posted = tuple(self._posting.asked), tuple(self._posting.untold)
        sessions = self._sessions
        self._exchange.report(tick, time.monotonic())
        self._await(lambda: self._exchange.is_idle)
        return sessions == self._sessions and self._superseded is None

    def _await(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds, or another supervisor follows the training. Raises `GivenUp`."""
        longest_s = self._settings.answers_within_s
        patience = Patience(self._interrupts, is_overtaken=self._is_overtaken, longest_s=longest_s)
        while not holds() and self._superseded is None:
            self._wake.wait(LOOK_INTERVAL_S)
            self._wake.clear()
            now = time.monotonic()
            self._take_news(now)
            patience.check(now, self._exchange.heard_at)

    def ended(self) -> Ended:
        """Return how the training has ended, as the process that started it saw it if that is known."""
        if self._known_end is not None:
            return self._known_end
        last_line = self._consoles.last_line if self._sessions else lambda rank: ""
        return describe_end(
            self._group,
            self._redactor,
            last_line=last_line,
            end=self.progress.end,
            stops=self._interrupts.stops,
            oom_kill=self._oom_kills.has_killed(),
            may_restart=self._settings.may_restart,
            why_ended=self._settings.why_ended,
        )
