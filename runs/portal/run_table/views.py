"""The page of the list, and its fragments that are refreshed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.generic import View

from runs.access.roles import COMMANDING_ROLES
from runs.curation.saved_views import default_view
from runs.curation.tags import tags_of_projects
from runs.models import Membership, Role, Run, RunQuerySet, SavedView
from runs.portal.run_table.columns import Values, chosen_columns, heads_of, is_default, looked_at, offers, with_epochs
from runs.portal.run_table.emptiness import emptiness_of
from runs.portal.run_table.exporting import exports
from runs.portal.run_table.form import RunFilter
from runs.portal.run_table.group_rows import OPEN, Grouping, GroupRow, group_page
from runs.portal.run_table.groups import MOST_OPEN, group_choices, group_field
from runs.portal.run_table.paging import counted_page
from runs.portal.run_table.rows import Row, TagLink, badges_of, row_of, with_loss
from runs.portal.run_table.saved_views import SHOWN, offered_views, query_of
from runs.portal.run_table.sparks import sparks_of
from runs.queueing.board import QueueCounts, board, commanded_projects
from runs.recording.queue_places import places_of
from runs.selection.expressions import last_host
from runs.selection.fields import OWN_FIELDS, Field
from runs.selection.ordering import Order, ordered, parse_order
from runs.selection.search import Search, Term

RUNS_A_PAGE = 25
# What the links of the list keep, beside its columns and unfolded groups.
KEPT = ("project", SHOWN, "q", "state", "archived", "sort", "group")
# What a person may sort by on a phone, if columns have no heads.
SORTED_ON_A_PHONE = ("loss", "best", "started", "duration", "name")


@dataclass(frozen=True, slots=True)
class Chip:
    """One word or comparison of the search, and the query of the list without it."""

    text: str
    query: str


@dataclass(frozen=True, slots=True)
class Band:
    """Rows under one title: the runs that live, or the others. The title is empty where there is one band alone.

    `group` is the group whose rows they are, if the list is in groups.
    """

    title: str
    rows: Sequence[Row]
    group: GroupRow | None = None


class RunList(LoginRequiredMixin, View):
    """The runs of the viewer's projects: live ones first, then in the requested order.

    `?fragment=1` returns only the table, for refreshing; `?fragment=queue` the hosts and their waiting runs;
    `?fragment=columns` the menu of columns. The number of queries depends neither on the number of runs nor on the
    columns.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        if list(request.GET) == ["project"] and (view := self._default_view()) is not None:
            return HttpResponseRedirect(f"?{query_of(request.GET['project'], view.query, view.pk)}")
        fragment = request.GET.get("fragment", "")
        if fragment == "queue":
            return render(request, "runs/partials/queue.html", self._queue())
        form = RunFilter(request.GET, user=request.user)
        narrowed = form.narrow(Run.objects.visible_to(request.user))
        columns = chosen_columns(request.GET.getlist("column"))
        if fragment == "columns":
            offered = {"groups": offers(narrowed.runs, columns), "looked_at": looked_at(narrowed.runs)}
            return render(request, "runs/partials/column_menu.html", offered)
        context = self._table(form, narrowed.runs, columns) | {"problems": narrowed.problems}
        if fragment:
            return render(request, "runs/partials/table.html", context)
        seen = Run.objects.visible_to(request.user)
        if form.chosen_project is not None:
            seen = seen.filter(project=form.chosen_project)
        context |= self._queue() | {
            "exports": exports(),
            "group_choices": group_choices(seen, context["group_by"]),
        }
        context |= self._rights(form)
        return render(request, "runs/list.html", context)

    def _default_view(self) -> SavedView | None:
        return default_view(self.request.GET["project"], self.request.user.pk or 0)

    def _rights(self, form: RunFilter) -> dict[str, Any]:
        """Return what the viewer may do with runs of at least one project, and the saved views.

        Each action checks the permission for its run again.
        """
        memberships = list(Membership.objects.filter(user_id=self.request.user.pk or 0))
        commanded = [each.project_id for each in memberships if each.role in COMMANDING_ROLES]
        shown = self.request.GET.get(SHOWN, "")
        query = self.request.GET.urlencode()
        return offered_views(memberships, form.chosen_project, shown, query) | {
            "may": {"command": bool(commanded), "delete": any(each.role == Role.OWNER for each in memberships)},
            "known_tags": tags_of_projects(commanded) if commanded else [],
        }

    def _queue(self) -> dict[str, Any]:
        user = self.request.user
        commanded = commanded_projects(user)
        hosts = board(Run.objects.visible_to(user), commanded, timezone.now())
        return {"hosts": hosts, "counts": QueueCounts.of(hosts), "may_command": bool(commanded)}

    def _table(self, form: RunFilter, runs: RunQuerySet, columns: list[Field]) -> dict[str, Any]:
        asked = self.request.GET
        order = parse_order(asked.get("sort", ""))
        query = self._query(columns)
        by = group_field(asked.get("group", ""))
        found: dict[str, Any]
        if by is None:
            page = counted_page(ordered(runs, order), asked.get("page", ""), RUNS_A_PAGE)
            rows = self._rows(list(page.object_list), columns, form.search, query)
            found = {"page_obj": page, "rows": rows, "bands": _bands(rows)}
        else:
            opened = asked.getlist(OPEN)[:MOST_OPEN]
            grouping = Grouping(by, columns, order, opened, asked.get("page", ""), form.search, query)
            found = self._groups(runs, grouping)
        unsorted = [pair for pair in query if pair[0] != "sort"]
        paginator = found["page_obj"].paginator
        return found | {
            "paginator": paginator,
            "page_numbers": list(paginator.get_elided_page_range(found["page_obj"].number, on_each_side=2, on_ends=1)),
            "group_by": by,
            "tags_in_column": any(field.key == "tag" for field in columns),
            "heads": heads_of(columns, order, unsorted),
            "order": order,
            "orders": _orders(order),
            "columns": [] if is_default(columns) else columns,
            "chips": _chips(form.search, query),
            "form": form,
            "filtered": form.is_used,
            "empty": None if found["bands"] else emptiness_of(form, self.request.user),
            "query": urlencode(query),
        }

    def _groups(self, runs: RunQuerySet, asked: Grouping) -> dict[str, Any]:
        page, total = group_page(
            runs, asked, lambda numbers: self._rows(numbers, asked.columns, asked.search, asked.query)
        )
        bands = [Band(group.title, group.rows, group) for group in page.object_list]
        return {
            "page_obj": page,
            "rows": [row for band in bands for row in band.rows],
            "bands": bands,
            "grouped_runs": total,
        }

    def _rows(
        self, numbers: Sequence[int], columns: Sequence[Field], search: Search, query: Sequence[tuple[str, str]]
    ) -> list[Row]:
        """Return the rows of runs in this order. What they show is asked for these runs alone."""
        found = with_loss(Run.objects.filter(pk__in=list(numbers))).prefetch_related("tags")
        if any(field.key == "host" for field in columns):
            found = found.annotate(last_host=last_host())
        found = with_epochs(found, columns)
        by_number = {run.pk: run for run in found}
        runs = [by_number[number] for number in numbers if number in by_number]
        now = timezone.now()
        waiting = places_of(runs, Run.objects.visible_to(self.request.user))
        badges = badges_of(runs)
        values = Values(runs, columns)
        sparks = sparks_of(runs) if any(field.key == "loss" for field in columns) else {}
        return [
            row_of(
                run,
                now,
                waiting.get(run.pk),
                badges[run.pk],
                values.cells(run, columns),
                [_tag_link(tag.name, search, query) for tag in run.tags.all()],
                sparks.get(run.pk, ()),
            )
            for run in runs
        ]

    def _query(self, columns: list[Field]) -> list[tuple[str, str]]:
        """Return the query of the list, without the page."""
        asked = self.request.GET
        kept = [(name, asked[name]) for name in KEPT if asked.get(name)]
        if not is_default(columns):
            kept += [("column", field.key) for field in columns]
        return kept + [(OPEN, value) for value in asked.getlist(OPEN)[:MOST_OPEN] if asked.get("group")]


def _bands(rows: list[Row]) -> list[Band]:
    live = [row for row in rows if row.run.is_live]
    others = [row for row in rows if not row.run.is_live]
    if not live or not others:
        return [Band("", rows)] if rows else []
    return [Band(_("Live"), live), Band(_("Not live"), others)]


def _chips(search: Search, query: list[tuple[str, str]]) -> list[Chip]:
    others = [pair for pair in query if pair[0] != "q"]

    def chip(part: str | Term) -> Chip:
        rest = str(search.without(part))
        return Chip(str(part), urlencode([*others, ("q", rest)] if rest else others))

    # A search with only words is easy to read in the field.
    parts: list[str | Term] = [*search.words, *search.terms] if search.terms else []
    return [chip(part) for part in parts]


def _tag_link(name: str, search: Search, query: Sequence[tuple[str, str]]) -> TagLink:
    narrowed = search.with_term(Term("tag", "=", name))
    return TagLink(name, urlencode([*(pair for pair in query if pair[0] != "q"), ("q", str(narrowed))]))


def _orders(order: Order) -> list[tuple[str, str, bool]]:
    """Return a phone's list of orders: value, text and whether it is the current one."""
    towards = {"": _("%(column)s, rising"), "-": _("%(column)s, falling")}
    choices = [("", _("Newest first"))]
    fields = [OWN_FIELDS[key] for key in SORTED_ON_A_PHONE]
    if order.field is not None and order.field.key not in SORTED_ON_A_PHONE:
        fields.append(order.field)
    for field in fields:
        choices += [(sign + field.key, text % {"column": field.title}) for sign, text in towards.items()]
    return [(value, text, value == str(order)) for value, text in choices]
