"""Stores a report in parts if it cannot be stored as a whole, so that only invalid parts are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from django.db import transaction

from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced
from steersman.messages.errors import one_line
from steersman.messages.reports import ConsoleText, PartKind, Refused, Report
from steersman.records.point_blocks import in_blocks, one_by_one


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a report that is stored separately: `keys` are indices of its items, or names of samples."""

    kind: PartKind
    keys: tuple[int | str, ...] = ()

    def of(self, report: Report) -> Report:
        """Return a report with only this part."""
        alone = Report(report.session, report.number)
        match self.kind:
            case "records":
                # Each point counts as one, because a single one of a block may be invalid.
                records = one_by_one(report.records)
                return replace(alone, records=in_blocks(records[key] for key in self.keys if isinstance(key, int)))
            case "stall":
                return replace(alone, stall=report.stall)
            case "system":
                return replace(
                    alone, system={name: v for name, v in (report.system or {}).items() if name in self.keys}
                )
            case "lines":
                return replace(alone, lines=[report.lines[key] for key in self.keys if isinstance(key, int)])
        return replace(alone, console=self._console(report), unreadable=report.unreadable if self._is_first else 0)

    @property
    def _is_first(self) -> bool:
        return not self.keys or self.keys[0] == 0

    def _console(self, report: Report) -> ConsoleText | None:
        """Return lines of the console; the first part has the size of skipped output, the last one the incomplete
        lines.
        """
        console = report.console
        if console is None:
            return None
        is_last = not self.keys or self.keys[-1] == len(console.lines) - 1
        return ConsoleText(
            lines=[console.lines[key] for key in self.keys if isinstance(key, int)],
            skipped_bytes=console.skipped_bytes if self._is_first else 0,
            unfinished=console.unfinished if is_last else None,
        )

    def halves(self) -> list[Part]:
        """Return the part divided into two, [] if it is a single item."""
        middle = len(self.keys) // 2
        return [replace(self, keys=keys) for keys in (self.keys[:middle], self.keys[middle:])] if middle else []


def parts_of(report: Report) -> list[Part]:
    """Return the parts of a report that can be stored separately, in their order."""
    parts = []
    if report.records:
        parts.append(Part("records", tuple(range(len(one_by_one(report.records))))))
    if report.stall is not None:
        parts.append(Part("stall"))
    if report.system is not None:
        parts.append(Part("system", tuple(report.system)))
    if report.lines:
        parts.append(Part("lines", tuple(range(len(report.lines)))))
    if report.console is not None or report.unreadable:
        parts.append(Part("console", tuple(range(len(report.console.lines) if report.console else 0))))
    return parts


def store_apart(report: Report, part: Part, put: Callable[[Report], None]) -> list[Refused]:
    """Store a part of a report with `put`, dividing it where needed; return the items that cannot be stored.

    Call inside a transaction. Raises exceptions that are not about the data.
    """
    try:
        with transaction.atomic():
            put(part.of(report))
        return []
    except Fenced:
        raise
    except Exception as error:
        if not is_refusal(error):
            raise
        halves = part.halves()
        if not halves:
            return [Refused(part.kind, part.keys[0] if part.keys else None, one_line(error))]
    return [refused for half in halves for refused in store_apart(report, half, put)]
