"""Numbers the reports of a supervisor, and keeps each until it is answered. No Django, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.kept_checkpoints import KeptCheckpoints
from steersman.agent.reporting.quarantine import put_into_quarantine, texts_aside
from steersman.agent.reporting.redacted_records import RecordRedactor
from steersman.agent.reporting.ticks import Tick
from steersman.messages.environments import merge_environments
from steersman.messages.errors import one_line
from steersman.messages.reports import Attached, ConsoleText, Refused, Report, SetAside, Stored
from steersman.records.kinds import EndRecord, EnvironmentRecord, EpochRecord, PlanRecord, PointRecord
from steersman.records.point_blocks import in_blocks, one_by_one
from steersman.records.progress import step_after
from steersman.records.record import Record
from steersman.values import as_text


@dataclass(slots=True)
class StoredProgress:
    """Progress for the terminal: the latest values, and the end that the worker reported."""

    step: int = 0
    epoch: int = 0
    total_steps: int | None = None
    total_epochs: int | None = None
    latest: dict[str, float] = field(default_factory=dict)
    end: EndRecord | None = None
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class UnderWay:
    """A report without an answer yet; `originals` are its records one by one, as they were read."""

    report: Report
    originals: list[Record]


class Outcome(Enum):
    """The effect of an answer on the unanswered report."""

    STORED = "stored"
    SEND_AGAIN = "send again without the refused parts"
    BEHIND = "less is stored than before"
    OF_ANOTHER = "it answers another report"


class ReportSequence:
    """Makes the reports of one attempt from ticks, one at a time, without sending them."""

    def __init__(
        self, folder: Path, redactor: Redactor, progress: StoredProgress, removed_earlier: Iterable[str] = ()
    ) -> None:
        """`removed_earlier`: see `KeptCheckpoints`."""
        self.progress = progress
        self._folder = folder
        self._redactor = redactor
        self._records = RecordRedactor(redactor)
        self._checkpoints = KeptCheckpoints(folder, {}, removed_earlier)
        self._session = 0
        self._number = 0
        # The report to store next, before any other. Until it is answered, it may be stored or not.
        self.under_way: Tick | None = None
        self._sent: UnderWay | None = None

    @property
    def is_attached(self) -> bool:
        """Whether a session has begun."""
        return self._session > 0

    def begin_session(self, attached: Attached) -> bool:
        """Continue from the stored position; return whether the unanswered report is stored.

        If it is not, it is dropped: its tick is read again.
        """
        is_stored = self._sent is not None and attached.next_report == self._number + 1
        if self._sent is not None and is_stored:
            self._note_progress(self._sent.originals)
        self._session, self._number = attached.session, attached.next_report
        self.under_way = self._sent = None
        self._checkpoints = KeptCheckpoints(self._folder, attached.checkpoints, self._checkpoints.earlier)
        self.progress.environment = attached.environment
        self.progress.step = attached.last_step
        return is_stored

    def report(self, tick: Tick) -> Report:
        """Return the report of a tick, the same one until it is answered.

        Raises `OSError` if the records to set aside cannot be written; then call it again with the same tick.
        """
        assert self.under_way in (None, tick), "one tick at a time: the one before has no answer yet"
        self.under_way = tick
        if self._sent is None:
            self._sent = self._begin(tick)
        return self._sent.report

    def take(self, stored: Stored) -> Outcome:
        """Handle an answer. Raises `OSError` if refused records cannot be written: then call it again with the same
        answer.

        If the result is BEHIND, `under_way` stays: attach, and continue to read from there.
        """
        sent = self._sent
        if sent is None or stored.answers != self._number or stored.session < self._session:
            return Outcome.OF_ANOTHER
        if stored.session > self._session:
            # An earlier `Attach` arrived late and began another session.
            return Outcome.BEHIND
        if stored.refused:
            self._leave_out(sent, stored.refused)
            return Outcome.SEND_AGAIN
        if stored.number != self._number:
            return Outcome.BEHIND
        self._number += 1
        self.under_way = self._sent = None
        self._checkpoints.forget(sent.report.removed_checkpoints)
        self._note_progress(sent.originals)
        return Outcome.STORED

    def _begin(self, tick: Tick) -> UnderWay:
        """Return the next report: the content of a tick, redacted."""
        read = tick.read or JournalsRead()
        originals: list[Record] = []
        records: list[Record] = []
        aside: list[SetAside] = []
        for record in read.records:
            if tick.deadly:
                aside.append(self._keep(record, record.in_words(), tick.deadly))
                continue
            try:
                records.append(self._records.redacted(record))
                originals.append(record)
            except (MemoryError, OSError):
                raise
            except Exception as error:  # any exception: a script may have logged any value
                aside.append(self._keep(record, record.in_words(), one_line(error)))
        text = self._redactor.text
        console = None
        if tick.console is not None:
            printed, unfinished = tick.console, tick.console.unfinished
            shown = [text(line) for line in unfinished] if unfinished is not None else None
            lines = [text(line) for line in printed.lines]
            console = ConsoleText(lines, printed.skipped_bytes, printed.offsets, shown)
        report = Report(
            session=self._session,
            number=self._number,
            begin=read.begin,
            end=read.positions,
            records=in_blocks(records),
            unreadable=read.unreadable,
            console=console,
            system=tick.system,
            lines=[replace(line, text=text(line.text)) for line in tick.lines],
            stall=tick.stall,
            not_looking_s=tick.not_looking_s,
            gpus=tick.gpus,
            removed_checkpoints=self._checkpoints.removed(read.records),
            set_aside=aside,
            backlog_bytes=tick.backlog_bytes,
            asked=tick.asked,
            posted=tick.posted,
            by_rank=self._by_rank(read),
            disk=tick.disk,
        )
        return UnderWay(report, originals)

    def _by_rank(self, read: JournalsRead) -> list[dict[int, PointRecord]]:
        names = self._records.names
        return [{rank: names.renamed(point) for rank, point in points.items()} for points in read.by_rank]

    def _leave_out(self, sent: UnderWay, refused: Sequence[Refused]) -> None:
        """Move refused records into the quarantine, and continue without them."""
        report = sent.report
        aside = [self._aside(sent, each) for each in refused]
        left = {kind: {each.key for each in refused if each.kind == kind} for kind in ("records", "lines", "console")}
        records = in_blocks(_without(one_by_one(report.records), left["records"]))
        sent.originals = _without(sent.originals, left["records"])
        names = {each.key for each in refused if each.kind == "system"}
        system = {name: value for name, value in (report.system or {}).items() if name not in names}
        console = report.console
        if console is not None:
            unfinished = None if None in left["console"] else console.unfinished
            console = replace(console, lines=_without(console.lines, left["console"]), unfinished=unfinished)
        sent.report = replace(
            report,
            records=records,
            system=system or None,
            lines=_without(report.lines, left["lines"]),
            console=console,
            stall=None if any(each.kind == "stall" for each in refused) else report.stall,
            set_aside=[*report.set_aside, *aside],
        )

    def _aside(self, sent: UnderWay, refused: Refused) -> SetAside:
        """Put one refused item into the quarantine."""
        report, key, reason = sent.report, refused.key, refused.reason
        match refused.kind:
            case "records" if isinstance(key, int):
                return self._keep(sent.originals[key], one_by_one(report.records)[key].in_words(), reason)
            case "system" if isinstance(key, str) and report.system is not None:
                record = texts_aside(system={key: report.system[key]})
                return self._keep(record, f"the sample {as_text(key, 40)}", reason)
            case "lines" if isinstance(key, int):
                return self._keep(texts_aside([report.lines[key].text]), "a line of text", reason)
            case "console" if report.console is not None:
                lines = [report.console.lines[key]] if isinstance(key, int) else report.console.unfinished or []
                return self._keep(texts_aside(lines), "a line of text", reason)
        return self._keep(texts_aside(others=[repr(report.stall)]), "an event", reason)

    def _keep(self, record: Record, what: str, reason: str) -> SetAside:
        reason = self._redactor.text(reason)
        put_into_quarantine(self._folder, record, reason)
        return SetAside(self._redactor.text(what), reason)

    def _note_progress(self, records: Sequence[Record]) -> None:
        progress = self.progress
        step = step_after(records)
        progress.step = progress.step if step is None else step
        for record in records:
            match record:
                case PointRecord():
                    progress.latest.update(record.values)
                case EpochRecord():
                    progress.epoch = record.epoch
                    progress.latest.update(record.values)
                case PlanRecord():
                    progress.total_steps, progress.total_epochs = record.total_steps, record.total_epochs
                case EnvironmentRecord():
                    progress.environment = merge_environments(progress.environment, record.environment, record.rank)
                case EndRecord():
                    progress.end = record


def _without(items: Sequence[Any], left_out: Iterable[object]) -> list[Any]:
    left = set(left_out)
    return [item for index, item in enumerate(items) if index not in left]
