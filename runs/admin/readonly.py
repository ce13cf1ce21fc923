"""Pages of the admin that only show: nothing is added, changed or deleted there. Alerts are such a page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from runs.models import Alert, Severity

SEVERITY_LABELS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "danger"}


class OnlyShows(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Alert)
class AlertAdmin(OnlyShows):
    list_display = ("title", "severity_label", "state", "run", "attempt", "series", "step", "began_at", "cleared_at")
    list_filter = ("severity", "state", "detector", "late", "run__project", "began_at")
    list_select_related = ("run",)
    search_fields = ("title", "series", "run__name")
    date_hierarchy = "began_at"
    list_per_page = 50

    @display(description=_("severity"), ordering="severity", label=SEVERITY_LABELS)
    def severity_label(self, alert: Alert) -> tuple[str, str]:
        return alert.severity, alert.get_severity_display()
