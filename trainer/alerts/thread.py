"""Judges stored ticks on a thread, and writes alerts through its own database connection.

The supervisor passes a reference and continues: neither a slow detector nor a slow database delays a tick.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator

from django.db import Error as DatabaseError
from django.db import connection

from runs.alerts.cooling import Key
from runs.alerts.detectors.curve import Curve
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Point, thinned
from runs.alerts.rulebook import acting
from runs.alerts.rulebook.aftermath import note_roll_backs
from runs.alerts.rulebook.history import curves_before, goals_before
from runs.alerts.rules import OF_STATE
from runs.models import OF_CODE, Alert, Attempt
from runs.recording import alerts
from runs.recording.alerts import Finding
from runs.recording.checkpoints import rate_checkpoints
from runs.recording.lifecycle import Lease
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.messages.errors import one_line
from steersman.messages.reports import Line, Report
from steersman.records.point_blocks import PointBlock
from trainer.alerts.judging import Batch, Explained, RunJudge
from trainer.alerts.shared_reads import SharedReads

logger = logging.getLogger(__name__)

# The maximum number of values that wait to be judged; beyond it, the oldest batches are dropped.
MOST_WAITING_VALUES = 200_000
MOST_UNWRITTEN = 1_000
LOOK_INTERVAL_S = 1.0
# Batches that arrive within this time after others are judged together: to wake a thread for each of many runs would
# cost a good part of what their reports cost.
GATHER_S = 0.25
# A changed rule applies at most this much later: a thread looks after the first part of it, and what it finds may be
# as old as the second part.
RULES_INTERVAL_S = 3.0
RULES_LOOK_PART, RULES_AGE_PART = 2 / 3, 1 / 3
# A supervisor ends even if the database is unavailable: the end of an attempt clears its alerts anyway.
FINISH_TIMEOUT_S = 5.0


class Overtaken(Exception):
    """Another attempt holds the run, or this one has ended: nothing more is written."""


class AlertThread:
    """Judges one attempt. The supervisor's thread calls `take`, `take_lines` and `finish`, which return at once."""

    def __init__(
        self, lease: Lease, redactor: Redactor, judge: Judge | None = None, reads: SharedReads | None = None
    ) -> None:
        self._lease = lease
        self._reads = reads or SharedReads()
        self._judge = RunJudge(SeriesNames(redactor), judge)
        self._judge.curves_at = self._curves_at
        self._redactor = redactor
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._waiting: deque[tuple[Batch, int]] = deque()
        self._waiting_values = 0
        self._lines: list[Line] = []
        self._was_dropped = False
        self._is_closing = False
        self.dropped_values = 0
        # Entries to write, in order: the beginning of an alert, new information about it, or its end.
        self._unwritten: deque[Finding | Explained | Key] = deque()
        self._open: dict[Key, int] = {}
        # Alerts whose action has to be performed.
        self._to_act: deque[int] = deque()
        self._rules_read = -math.inf
        # The database operations that are failing.
        self._failing: set[str] = set()
        # The number of left out alerts that is not written yet.
        self._left_out = 0
        self._is_new = True
        self._resumes = False
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    @property
    def has_ended(self) -> bool:
        """Whether it judges nothing more."""
        return self._is_closing

    def start(self, *, resumes: bool = False) -> None:
        """Start judging; `resumes`: the points continue a training that another thread has judged."""
        if resumes:
            self._judge.continues()
        self._resumes = resumes
        self._thread.start()

    def see(self, report: Report, step: int, stalled: bool) -> None:
        """Queue the content of a stored report; `step` is the training's current step."""
        self.take(
            Batch(report.records, report.system or {}, step, time.time(), stalled=stalled, by_rank=report.by_rank)
        )

    def take(self, batch: Batch) -> None:
        """Queue the content of a tick. If too much waits, the oldest batches are dropped and counted."""
        values = len(batch.system) + sum(len(ranks) for ranks in batch.by_rank)
        values += sum(record.values for record in batch.records if isinstance(record, PointBlock))
        with self._lock:
            if self._is_closing:
                return
            self._waiting.append((batch, values))
            self._waiting_values += values
            while self._waiting_values > MOST_WAITING_VALUES and len(self._waiting) > 1:
                _, fewer = self._waiting.popleft()
                self._waiting_values -= fewer
                self.dropped_values += fewer
                if not self._was_dropped:
                    self._say_locked("Alerts: points arrive faster than they can be checked; the oldest are skipped.")
                self._was_dropped = True
            self._arrived.set()

    def take_lines(self) -> list[Line]:
        """Return the lines for the console of the run since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S) -> None:
        """Judge the waiting batches and end the thread; wait at most `timeout_s`."""
        with self._lock:
            self._is_closing = True
        self._closing.set()
        self._arrived.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            if self._resumes:
                self._remember()
            self._read_rules()
            for point in thinned(self._arriving()):
                self._unwritten += self._judge.see(point, time.time())
            self._judge.end()
            self._settle()
            self._note_roll_backs()
        except Overtaken:
            logger.info("another attempt holds run %d: this process no longer detects its alerts", self._lease.run_id)
        except Exception as error:  # any exception: it must not end the recording
            logger.exception("alert detection of run %d failed and is switched off", self._lease.run_id)
            self._say(f"Alert detection is switched off after an error ({type(error).__name__}: {error}).", "warning")
        finally:
            with self._lock:
                self._is_closing = True
                self._waiting.clear()
            self._reads.forget(self._lease)
            connection.close()

    def _arriving(self) -> Iterator[Point]:
        """Yield the arriving points until the supervisor ends; between batches, write the findings."""
        while True:
            batch = self._next()
            if batch is not None:
                yield from self._judge.points(batch)
                if batch.stalled:
                    self._unwritten += self._judge.silent(time.time())
            elif self._is_closing:
                return
            self._settle()
            self._read_rules()

    def _remember(self) -> None:
        """Pass earlier declarations and points to the detectors, while new points wait in the queue.

        Some points may have been read from the database too: duplicates do not change the result.
        """
        try:
            attempt = Attempt.objects.get(pk=self._lease.attempt_id)
            goals = goals_before(attempt)
            self._judge.declare(goals)
            self._judge.remember(curves_before(attempt, goals))
        except DatabaseError as error:
            logger.warning(
                "the earlier points of run %d cannot be read, and its alerts are detected without them: %s",
                self._lease.run_id,
                error,
            )
            connection.close()

    def _curves_at(self, step: int) -> dict[str, Curve]:
        """Return the stored curves up to a step; none if the database is unavailable."""
        try:
            attempt = Attempt.objects.get(pk=self._lease.attempt_id)
            return curves_before(attempt, goals_before(attempt), step)
        except DatabaseError as error:
            logger.warning(
                "the earlier points of run %d cannot be read, and its alerts are detected without them: %s",
                self._lease.run_id,
                error,
            )
            connection.close()
            return {}

    def _read_rules(self) -> None:
        """Read the current rules and rate checkpoints, unless that was done recently.

        If the database is unavailable, the last rules stay valid.
        """
        now = time.monotonic()
        if now - self._rules_read < RULES_INTERVAL_S * RULES_LOOK_PART:
            return
        self._rules_read = now
        try:
            found = self._reads.of(self._lease, RULES_INTERVAL_S * RULES_AGE_PART)
            self._judge.obey(found.rules)
            if found.has_unrated_checkpoints:
                self._rate()
            if found.has_refused_roll_backs:
                self._try_older()
            if found.has_roll_backs:
                self._note_followed()
            self._note_success("reading its alert rules")
        except DatabaseError as error:
            self._note_failure("reading its alert rules", error)

    def _next(self) -> Batch | None:
        """Return the next batch, None if none arrived for a while or the supervisor ends."""
        if not self._waiting:
            self._closing.wait(GATHER_S)
            self._arrived.wait(LOOK_INTERVAL_S)
        with self._lock:
            if self._was_dropped:
                self._was_dropped = False
                self._judge.skip()
            if not self._waiting:
                return None
            batch, values = self._waiting.popleft()
            self._waiting_values -= values
            if not self._waiting:
                self._arrived.clear()
            return batch

    def _settle(self) -> None:
        """Write the alerts that began or ended; if the database is unavailable, retry later."""
        self._unwritten += self._judge.explained()
        self._unwritten += self._judge.over()
        for message in self._judge.take_messages():
            self._say(message, "warning")
        while len(self._unwritten) > MOST_UNWRITTEN:
            self._left_out += isinstance(self._unwritten.popleft(), Finding)
        self._left_out += self._judge.take_left_out()
        if not self._unwritten and not self._to_act and not self._left_out and not self._is_new:
            return
        try:
            if self._is_new:
                acting.catch_up(self._lease.run_id)
                self._clear_earlier()
                self._is_new = False
            while self._unwritten:
                self._write(self._unwritten[0])
                self._unwritten.popleft()
                self._act()
            self._act()
            if self._left_out:
                alerts.leave_out(self._lease.run_id, self._lease.number, self._left_out)
                self._left_out = 0
            self._note_success("writing its alerts")
        except DatabaseError as error:
            self._note_failure("writing its alerts", error)

    def _note_failure(self, what: str, error: DatabaseError) -> None:
        """Log the first of several failures, and let the next try open a new connection."""
        if what not in self._failing:
            logger.warning("run %d: %s failed (%s); trying again", self._lease.run_id, what, one_line(error))
        self._failing.add(what)
        connection.close()

    def _note_success(self, what: str) -> None:
        if what in self._failing:
            self._failing.remove(what)
            logger.warning("run %d: %s works again", self._lease.run_id, what)

    def _clear_earlier(self) -> None:
        """End the alerts of an earlier supervisor of this attempt, because the detectors of this one start anew."""
        earlier = Alert.objects.filter(
            run_id=self._lease.run_id, attempt=self._lease.number, state__in=alerts.LASTING
        ).exclude(detector__in=(OF_CODE, *OF_STATE))
        for pk in list(earlier.values_list("pk", flat=True)):
            alerts.clear(self._lease.run_id, self._lease.number, pk)

    def _write(self, change: Finding | Explained | Key) -> None:
        run_id, number = self._lease.run_id, self._lease.number
        if isinstance(change, Finding):
            if not alerts.has_room(run_id, number, change.detector):
                self._left_out += 1
                return
            alert = alerts.begin(run_id, number, change)
            if alert is None:
                raise Overtaken
            earlier = self._open.pop((change.detector, change.series), None)
            if earlier is not None:
                # It ended and began again between two passes.
                alerts.clear(run_id, number, earlier, change.step)
            self._open[change.detector, change.series] = alert.pk
            if change.action:
                self._to_act.append(alert.pk)
        elif isinstance(change, Explained):
            if change.key in self._open:
                alerts.explain(run_id, number, self._open[change.key], change.text, change.cause)
        elif change in self._open:
            alerts.clear(run_id, number, self._open[change])
            del self._open[change]

    def _act(self) -> None:
        """Perform the actions of rules whose alerts began."""
        if self._to_act:
            # The training may be rolled back to a checkpoint from before the fault, whose beginning is known now.
            rate_checkpoints(self._lease.run_id, self._lease.number, self._judge.step)
        while self._to_act:
            acting.act(self._to_act[0])
            self._to_act.popleft()

    def _rate(self) -> None:
        """Rate the checkpoints after which the detectors found nothing for long enough."""
        rate_checkpoints(self._lease.run_id, self._lease.number, self._judge.step, self._judge.settled)

    def _try_older(self) -> None:
        acting.try_older(self._lease.run_id, self._lease.number)

    def _note_followed(self) -> None:
        judge = self._judge
        note_roll_backs(self._lease.run_id, self._lease.number, judge.step, judge.recent, judge.roll_backs)

    def _note_roll_backs(self) -> None:
        """Record the remaining results of rollbacks."""
        try:
            self._try_older()
            self._note_followed()
        except DatabaseError as error:
            self._note_failure("writing the results of its rollbacks", error)

    def _say(self, text: str, level: str) -> None:
        with self._lock:
            self._say_locked(self._redactor.text(text), level)

    def _say_locked(self, text: str, level: str = "warning") -> None:
        self._lines.append(Line(text, level))
