"""Reads the audit: its entries and the commands of runs, as one list, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from runs.models import AuditEntry, AuditKind, Command, Project
from runs.series.exports import line

ENTRIES_A_BLOCK = 500
HEAD = (
    "time", "kind", "by", "by_id", "address", "person", "person_id", "project", "project_id", "run", "name", "detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of entries; fields that are None or empty do not limit it. `person` is the login name of author or
    subject.
    """

    kind: str = ""
    person: str = ""
    project: Project | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The end of a page: the next one begins after this entry or command."""

    at: datetime
    entry: int | None = None
    command: UUID | None = None

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.entry if self.command is None else self.command}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that `str` produced, None if the text is not one."""
        moment, _, key = text.partition("~")
        try:
            at = datetime.fromisoformat(moment)
            if at.tzinfo is None:
                return None
            if key.isdecimal() and len(key) <= 18:
                return cls(at, entry=int(key))
            return cls(at, command=UUID(key))
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the list."""

    place: Place
    kind: AuditKind
    actor_name: str
    actor_number: int | None
    address: str
    person_name: str
    person_number: int | None
    project_name: str
    project_number: int | None
    run: int | None
    what: str
    detail: str

    @property
    def at(self) -> datetime:
        return self.place.at


def audit_lines(wanted: Wanted, below: Place | None, most: int) -> list[AuditLine]:
    """Return the newest `most` lines of the filter after a place. At the same time, entries come before commands."""
    found = [_of_entry(each) for each in _entries(wanted, below)[:most]]
    found += [_of_command(each) for each in _commands(wanted, below)[:most]]
    found.sort(key=lambda each: (each.at, each.place.command is None), reverse=True)
    return found[:most]


def audit_csv(wanted: Wanted, with_address: bool) -> Iterator[str]:
    """Yield the filtered lines as blocks of CSV, newest first; texts are safe for spreadsheets."""
    yield line(HEAD)
    place: Place | None = None
    while found := audit_lines(wanted, place, ENTRIES_A_BLOCK):
        place = found[-1].place
        yield "".join(line(_cells(each, with_address)) for each in found)


def _cells(each: AuditLine, with_address: bool) -> list[str | int | None]:
    return [
        each.at.isoformat(), str(each.kind), each.actor_name, each.actor_number, each.address if with_address else "",
        each.person_name, each.person_number, each.project_name, each.project_number, each.run, each.what, each.detail,
    ]  # fmt: skip


def _entries(wanted: Wanted, below: Place | None) -> QuerySet[AuditEntry]:
    entries = AuditEntry.objects.order_by("-at", "-id")
    if wanted.kind == AuditKind.COMMAND:
        return entries.none()
    if wanted.kind:
        entries = entries.filter(kind=wanted.kind)
    if wanted.person:
        entries = entries.filter(Q(actor_name__iexact=wanted.person) | Q(person_name__iexact=wanted.person))
    if wanted.project:
        entries = entries.filter(project_number=wanted.project.pk)
    entries = entries.filter(_period("at", wanted))
    if below is None:
        return entries
    same = Q(at=below.at, id__lt=below.entry) if below.command is None else Q(pk__in=[])
    return entries.filter(Q(at__lt=below.at) | same)


def _commands(wanted: Wanted, below: Place | None) -> QuerySet[Command]:
    commands = Command.objects.select_related("author", "run__project").order_by("-sent_at", "-id")
    if wanted.kind not in ("", AuditKind.COMMAND):
        return commands.none()
    if wanted.person:
        commands = commands.filter(Q(author__username__iexact=wanted.person) | Q(author_name__iexact=wanted.person))
    if wanted.project:
        commands = commands.filter(run__project=wanted.project)
    commands = commands.filter(_period("sent_at", wanted))
    if below is None:
        return commands
    same = Q(sent_at=below.at) if below.command is None else Q(sent_at=below.at, id__lt=below.command)
    return commands.filter(Q(sent_at__lt=below.at) | same)


def _period(field: str, wanted: Wanted) -> Q:
    condition = Q()
    if wanted.since:
        condition &= Q(**{f"{field}__gte": wanted.since})
    if wanted.until:
        condition &= Q(**{f"{field}__lt": wanted.until})
    return condition


def _of_entry(entry: AuditEntry) -> AuditLine:
    return AuditLine(
        place=Place(entry.at, entry=entry.pk),
        kind=AuditKind(entry.kind),
        actor_name=entry.actor_name,
        actor_number=entry.actor_number,
        address=entry.address,
        person_name=entry.person_name,
        person_number=entry.person_number,
        project_name=entry.project_name,
        project_number=entry.project_number,
        run=entry.run_number,
        what=entry.what,
        detail=entry.detail,
    )


def _of_command(command: Command) -> AuditLine:
    return AuditLine(
        place=Place(command.sent_at, command=command.pk),
        kind=AuditKind.COMMAND,
        actor_name=command.author.get_username() if command.author else command.author_name,
        actor_number=command.author_id,
        address="",
        person_name="",
        person_number=None,
        project_name=command.run.project.name,
        project_number=command.run.project_id,
        run=command.run_id,
        what=command.kind,
        detail=str(command.state),
    )
