"""Deletes runs after showing the numbers of rows; only for superusers, and never a live run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected as django_delete_selected
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from runs.curation.deletion import NotDeletable, check_deletable, count_deletion, delete_run
from runs.models import Run


class DeletesRuns(ModelAdmin):
    """The part of the admin of runs for deletion."""

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, unquote(object_id))
        try:
            if run is not None and self.has_delete_permission(request, run):
                check_deletable(run)
            response: HttpResponse = super().delete_view(request, object_id, extra_context)
        except NotDeletable as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:runs_run_change", args=[object_id]))
        return response

    @admin.action(description=_("Delete selected %(verbose_name_plural)s"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        """Show what will be deleted and ask, then delete; delete nothing if one of the runs is live."""
        try:
            for run in queryset:
                check_deletable(run)
            response: HttpResponse | None = django_delete_selected(self, request, queryset)
        except NotDeletable as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return None
        return response

    def get_deleted_objects(
        self, objs: Iterable[Run], request: HttpRequest
    ) -> tuple[list[str], dict[str, Any], set[str], list[str]]:
        """Count the rows instead of listing them: a run has millions of points."""
        runs = list(objs)
        extent = count_deletion([run.pk for run in runs])
        counts = {
            gettext("runs"): len(runs),
            gettext("epochs"): extent.epochs,
            gettext("points"): extent.points,
            gettext("events"): extent.events,
            gettext("commands"): extent.commands,
            gettext("checkpoints"): f"{extent.checkpoints} ({filesizeformat(extent.checkpoint_bytes)})",
            gettext("files on this machine"): filesizeformat(extent.files_bytes),
        }
        return [str(run) for run in runs], counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Run) -> None:
        delete_run(obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        for pk in list(queryset.values_list("pk", flat=True)):
            delete_run(pk)
