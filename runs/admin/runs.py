"""Runs: the list, the page of one, creation, review, archive, export and deletion.

Recorded data is read-only.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from runs.access.roles import display_name
from runs.admin.commanding import CommandsRuns, may_send
from runs.admin.deleting import DeletesRuns
from runs.admin.forms import ChoosesRows, NewRunForm, ReviewForm
from runs.admin.overview import VARIANTS, as_clock, overview_of
from runs.admin.reviewing import Archived, Reviewed, ReviewsRuns
from runs.curation.about import notify_viewers
from runs.markdown.rendering import rendered
from runs.models import Recipe, Run
from runs.recording.liveness import duration_of, silent
from runs.series.downloads import csv_response
from runs.series.exports import branches_csv, commands_csv, epochs_csv, series_csv

SILENT = "silent"
EXPORTS = {"epochs": epochs_csv, "series": series_csv, "commands": commands_csv, "branches": branches_csv}


@admin.register(Run)
class RunAdmin(CommandsRuns, ReviewsRuns, DeletesRuns, ChoosesRows, ModelAdmin):
    list_display = (
        "heading",
        "state_label",
        "project",
        "recipe",
        "owner",
        "duration",
        "best",
        "created",
        "review",
    )
    list_display_links = ("heading",)
    list_filter = ("state", Reviewed, Archived, "project", "recipe", "created_at")
    list_per_page = 50
    date_hierarchy = "created_at"
    autocomplete_fields = ("reviewed_by",)
    actions = (
        "delete_selected",
        "mark_reviewed",
        "archive",
        "unarchive",
        "export_epochs",
        "export_series",
        "export_commands",
        "export_branches",
    )
    search_fields = ("name", "pk__exact", "project__name", "recipe__spec")
    search_help_text = _("Name, number, project or recipe")
    fieldsets_of_new = (
        (None, {"fields": ("project", "name", "recipe", "parameters")}),
        (_("Where and how"), {"fields": ("device", "seed", "deterministic")}),
    )
    fieldsets_of_existing = (
        (None, {"fields": ("name",)}),
        (_("Review"), {"fields": ("review_note", "reviewed_by", "reviewed_at")}),
    )
    change_form_outer_before_template = "admin/runs/run/overview.html"
    change_form_outer_after_template = "admin/runs/run/record.html"

    @display(description=_("run"), ordering="pk")
    def heading(self, run: Run) -> str:
        return str(run)

    @display(description=_("state"), ordering="state", label=VARIANTS | {SILENT: "danger"})
    def state_label(self, run: Run) -> tuple[str, str]:
        if silent(run, timezone.now()):
            return SILENT, gettext("no heartbeat")
        return run.state, run.get_state_display()

    @display(description=_("owner"), ordering="created_by__username")
    def owner(self, run: Run) -> str:
        return display_name(run.created_by) if run.created_by else ""

    @display(description=_("duration"))
    def duration(self, run: Run) -> str:
        return as_clock(duration_of(run, timezone.now()))

    @display(description=_("best metric"), ordering="best_metric")
    def best(self, run: Run) -> str:
        if run.best_metric is None:
            return ""
        number = f"{run.best_metric:.4g}"
        return format_html('{} <small class="cx-muted">{}</small>', number, run.best_metric_name)

    @display(description=_("created"), ordering="created_at")
    def created(self, run: Run) -> str:
        return format_html('<span class="cx-nowrap">{}</span>', date_format(localtime(run.created_at), "Y-m-d H:i"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        found: tuple[QuerySet[Run], bool] = super().get_search_results(request, queryset, search_term.removeprefix("#"))
        return found

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        queryset: QuerySet[Run] = super().get_queryset(request)
        return queryset.select_related("project", "recipe", "created_by", "reviewed_by")

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> Any:
        return self.fieldsets_of_new if obj is None else self.fieldsets_of_existing

    def get_form(
        self, request: HttpRequest, obj: Run | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Run]]:
        kwargs["form"] = NewRunForm if obj is None else ReviewForm
        form: type[forms.ModelForm[Run]] = super().get_form(request, obj, change, **kwargs)
        # People with only the view permission have no fields to edit.
        if "review_note" in form.base_fields:
            form.base_fields["review_note"].widget.attrs["rows"] = 3
        return form

    def save_model(self, request: HttpRequest, obj: Run, form: forms.ModelForm[Run], change: bool) -> None:
        if change:
            # The supervisor of a live run writes heartbeats and numbers meanwhile: save only the edited fields.
            obj.save(update_fields=self.reviewed_fields(request, obj, form))
            notify_viewers(obj.pk)
            return
        obj.created_by_id = request.user.pk
        obj.save()

    @admin.action(description=_("Export epochs (CSV)"), permissions=["view"])
    def export_epochs(self, request: HttpRequest, queryset: QuerySet[Run]) -> StreamingHttpResponse:
        return csv_response(request, "runs-epochs.csv", epochs_csv(queryset.order_by("pk")))

    @admin.action(description=_("Export series (CSV)"), permissions=["view"])
    def export_series(self, request: HttpRequest, queryset: QuerySet[Run]) -> StreamingHttpResponse:
        return csv_response(request, "runs-series.csv", series_csv(list(queryset.order_by("pk"))))

    @admin.action(description=_("Export commands (CSV)"), permissions=["view"])
    def export_commands(self, request: HttpRequest, queryset: QuerySet[Run]) -> StreamingHttpResponse:
        return csv_response(request, "runs-commands.csv", commands_csv(list(queryset.order_by("pk"))))

    @admin.action(description=_("Export branches (CSV)"), permissions=["view"])
    def export_branches(self, request: HttpRequest, queryset: QuerySet[Run]) -> StreamingHttpResponse:
        return csv_response(request, "runs-branches.csv", branches_csv(list(queryset.order_by("pk"))))

    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        command = self.admin_site.admin_view(self.command_view)
        return [
            path("<int:run_id>/export/<str:what>.csv", export, name="runs_run_export"),
            path("<int:run_id>/command/", command, name="runs_run_command"),
            *super().get_urls(),
        ]

    def export_view(self, request: HttpRequest, run_id: int, what: str) -> StreamingHttpResponse:
        """Download recorded data of one run: `what` is epochs, series, commands or branches."""
        run = Run.objects.filter(pk=run_id).first()
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if run is None or what not in EXPORTS:
            raise Http404
        return csv_response(request, f"run-{run_id}-{what}.csv", EXPORTS[what]([run]))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        run: Run | None = kwargs.get("obj")
        if run is None:
            context["recipes"] = Recipe.objects.all()
        else:
            now = timezone.now()
            record = overview_of(run, now)
            context |= {
                "run": run,
                "record": record,
                "clock": as_clock(record.duration),
                "owner": self.owner(run),
                "review_note": rendered(run.review_note),
                "silent": silent(run, now),
                "variant": VARIANTS.get(run.state, "default"),
                "ask_address": reverse("admin:runs_run_command", args=[run.pk]) if may_send(request.user, run) else "",
                "exports": {what: reverse("admin:runs_run_export", args=[run.pk, what]) for what in EXPORTS},
            }
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response
