"""Review and archive of runs: filters, bulk actions, and the time and author of a review."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.admin import ModelAdmin
from unfold.decorators import display

from runs.access.roles import display_name
from runs.curation.about import notify_viewers
from runs.curation.archive import NotArchivable, archive, unarchive
from runs.models import Run

CONFIRMED, NO = "yes", "no"


class _Since(admin.SimpleListFilter):
    """Filters runs by whether a time is set."""

    field: str
    answers: tuple[Any, Any]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(CONFIRMED, self.answers[0]), (NO, self.answers[1])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        if self.value() not in (CONFIRMED, NO):
            return queryset
        return queryset.filter(**{f"{self.field}__isnull": self.value() == NO})


class Reviewed(_Since):
    title = _("review")
    parameter_name = "reviewed"
    field = "reviewed_at"
    answers = (_("reviewed"), _("not reviewed"))


class Archived(_Since):
    title = _("archive")
    parameter_name = "archived"
    field = "archived_at"
    answers = (_("archived"), _("not archived"))


class ReviewsRuns(ModelAdmin):
    """The part of the admin of runs for review and archive."""

    @display(description=_("review"), ordering="reviewed_at")
    def review(self, run: Run) -> str:
        if run.reviewed_at is None:
            return ""
        reviewer = display_name(run.reviewed_by) if run.reviewed_by else "–"
        day = date_format(localtime(run.reviewed_at), "Y-m-d")
        return format_html('<span class="cx-nowrap">{}</span> <small class="cx-muted">{}</small>', reviewer, day)

    @admin.action(description=_("Mark as reviewed"), permissions=["change"])
    def mark_reviewed(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Mark the runs that have no review yet as reviewed, with person and time."""
        unreviewed = Run.objects.filter(pk__in=self._chosen(queryset), reviewed_at=None)
        chosen = list(unreviewed.values_list("pk", flat=True))
        with transaction.atomic():
            number = unreviewed.filter(pk__in=chosen).update(reviewed_by=request.user, reviewed_at=timezone.now())
            for run_id in chosen:
                notify_viewers(run_id)
        text = ngettext("%(number)d run is marked as reviewed.", "%(number)d runs are marked as reviewed.", number)
        self.message_user(request, text % {"number": number}, messages.SUCCESS)

    @admin.action(description=_("Archive"), permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Hide the runs from the portal's list. All data stays, and links to them still work."""
        number = 0
        for run_id in self._chosen(queryset):
            try:
                number += archive(run_id)
            except NotArchivable as reason:
                self.message_user(request, str(reason), messages.WARNING)
        text = ngettext("%(number)d run is archived.", "%(number)d runs are archived.", number)
        self.message_user(request, text % {"number": number}, messages.SUCCESS)

    @admin.action(description=_("Take out of the archive"), permissions=["change"])
    def unarchive(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        number = sum(unarchive(run_id) for run_id in self._chosen(queryset))
        text = ngettext(
            "%(number)d run was taken out of the archive.", "%(number)d runs were taken out of the archive.", number
        )
        self.message_user(request, text % {"number": number}, messages.SUCCESS)

    def reviewed_fields(self, request: HttpRequest, run: Run, form: forms.ModelForm[Run]) -> list[str]:
        """Complete who reviewed and when, and return the fields to save.

        The person who saves a note becomes the reviewer, unless the form names one; if either field is emptied, the
        review is withdrawn.
        """
        changed = set(form.changed_data)
        if not changed & {"review_note", "reviewed_by", "reviewed_at"}:
            return sorted(changed)
        taken_back = {name for name in changed & {"reviewed_by", "reviewed_at"} if getattr(run, name) is None}
        if taken_back:
            run.reviewed_by, run.reviewed_at = None, None
        else:
            if "review_note" in changed and "reviewed_by" not in changed or run.reviewed_by_id is None:
                run.reviewed_by_id = request.user.pk
            if "reviewed_at" not in changed:
                run.reviewed_at = timezone.now()
        return sorted(changed | {"reviewed_by", "reviewed_at"})

    def _chosen(self, queryset: QuerySet[Run]) -> list[int]:
        # The list's queryset is joined and ordered, so it cannot be updated.
        return list(queryset.values_list("pk", flat=True))
