"""The groups of a page of the list, with the links that fold and unfold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator

from runs.models import RunQuerySet
from runs.portal.run_table.columns import ALWAYS
from runs.portal.run_table.groups import MOST_OPEN, MOST_ROWS, Gathered, Spread, gather, spread_of, titles_of
from runs.portal.run_table.paging import asked_number
from runs.portal.run_table.rows import Row
from runs.selection.fields import Field
from runs.selection.ordering import Order
from runs.selection.search import Search, Term, parse

GROUPS_A_PAGE = 25
# Names unfolded groups by their values; an empty one is the group of runs without a value.
OPEN = "open"
# What the address of the runs of one group does not hold.
OF_GROUPS = ("group", OPEN)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as the list shows it, with the rows of its first runs if it is unfolded.

    `query` is that of the list with this group folded or unfolded; `narrowed` that of the list of its runs alone, empty
    if no search finds just these.
    """

    title: str
    count: int
    live: int
    spreads: Sequence[Spread]
    query: str
    narrowed: str
    is_open: bool
    rows: Sequence[Row] = field(default=())

    @property
    def shown(self) -> Sequence[Spread]:
        """The spreads of the columns beside the title of the group, which is as wide as the state and the name."""
        return self.spreads[len(ALWAYS) :]

    @property
    def more(self) -> int:
        """How many runs of an unfolded group are not shown."""
        return self.count - len(self.rows) if self.is_open else 0


@dataclass(frozen=True, slots=True)
class Grouping:
    """What the address asks: the field, the unfolded groups, the page, and the parts of the list's query."""

    by: Field
    columns: Sequence[Field]
    order: Order
    opened: Sequence[str]
    page: str
    search: Search
    query: Sequence[tuple[str, str]]


def group_page(
    runs: RunQuerySet, asked: Grouping, rows_of: Callable[[list[int]], list[Row]]
) -> tuple[Page[GroupRow], int]:
    """Return a page of the groups of `runs`, and the number of runs in all groups.

    `rows_of` makes the rows of runs; it is called once, for the runs of all unfolded groups of the page.
    """
    groups = gather(runs, asked.by, asked.columns, asked.order, asked.opened)
    paginator = Paginator(groups, GROUPS_A_PAGE)
    page = paginator.get_page(asked_number(asked.page))
    shown = list(page.object_list)
    titles = titles_of(shown, asked.by)
    unfolded = [group for group in shown if (group.value or "") in asked.opened]
    numbers = dict.fromkeys(number for group in unfolded for number in group.runs[:MOST_ROWS])
    rows = {row.run.pk: row for row in rows_of(list(numbers))} if numbers else {}
    made: Paginator[GroupRow] = Paginator([], GROUPS_A_PAGE)
    made.count = len(groups)
    result = made.get_page(page.number)
    result.object_list = [_row(group, titles[group.value], asked, rows) for group in shown]
    return result, len({number for group in groups for number in group.runs})


def _row(group: Gathered, title: str, asked: Grouping, rows: dict[int, Row]) -> GroupRow:
    is_open = (group.value or "") in asked.opened
    return GroupRow(
        title=title,
        count=len(group.runs),
        live=group.live,
        spreads=[spread_of(group, column) for column in asked.columns],
        query=_folding(group, asked, is_open),
        narrowed=_narrowed(group, asked),
        is_open=is_open,
        rows=[rows[number] for number in group.runs[:MOST_ROWS] if number in rows] if is_open else (),
    )


def _folding(group: Gathered, asked: Grouping, is_open: bool) -> str:
    value = group.value or ""
    opened = [each for each in asked.opened if each != value]
    if not is_open:
        # The one that was unfolded first is folded.
        opened = [*opened, value][-MOST_OPEN:]
    return urlencode([*(pair for pair in asked.query if pair[0] != OPEN), *((OPEN, each) for each in opened)])


def _narrowed(group: Gathered, asked: Grouping) -> str:
    search = asked.search.with_term(Term(asked.by.key, "=", group.value or ""))
    text = str(search)
    # A value with a quotation mark cannot be written, and a long search is cut off.
    if parse(text) != search:
        return ""
    return urlencode([*(pair for pair in asked.query if pair[0] not in ("q", *OF_GROUPS)), ("q", text)])
