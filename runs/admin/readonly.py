"""Read-only pages of the admin, for alerts and their destinations among others."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from runs.alerts.wording.texts import action_text, after_roll_back_text, error_of, texts_of
from runs.models import Alert, AlertDelivery, AlertDestination, DeliveryState, MailAccount, Severity

SEVERITY_LABELS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "danger"}
STATE_LABELS = {
    DeliveryState.WAITING: "info",
    DeliveryState.SENDING: "info",
    DeliveryState.SENT: "success",
    DeliveryState.FAILED: "danger",
    DeliveryState.DROPPED: "warning",
}


class OnlyShows(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class DeliveriesOfAlert(TabularInline):
    """The messages about an alert, and their destinations."""

    model = AlertDelivery
    fields = readonly_fields = ("destination", "moment", "state", "tries", "due_at", "sent_at", "shown_error")
    ordering = ("id",)
    extra = 0
    can_delete = False

    @display(description=_("error"))
    def shown_error(self, delivery: AlertDelivery) -> str:
        return error_of(delivery)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Alert)
class AlertAdmin(OnlyShows):
    list_display = (
        "shown_title",
        "severity_label",
        "state",
        "run",
        "attempt",
        "series",
        "step",
        "began_at",
        "cleared_at",
    )
    list_filter = ("severity", "state", "detector", "late", "run__project", "began_at")
    list_select_related = ("run",)
    search_fields = ("title", "series", "run__name")
    date_hierarchy = "began_at"
    list_per_page = 50
    inlines = (DeliveriesOfAlert,)
    # The texts in the language of the page: those of the row are in English.
    fields = readonly_fields = (
        "run",
        "attempt",
        "shown_title",
        "shown_text",
        "detector",
        "series",
        "severity",
        "step",
        "began_at",
        "value",
        "nonfinite",
        "usual",
        "late",
        "state",
        "cleared_at",
        "cleared_step",
        "acknowledged_name",
        "acknowledged_at",
        "rule",
        "shown_action",
        "command",
        "shown_after_roll_back",
    )

    @display(description=_("title"), ordering="title")
    def shown_title(self, alert: Alert) -> str:
        return texts_of(alert).title

    @display(description=_("text"))
    def shown_text(self, alert: Alert) -> str:
        return texts_of(alert).text

    @display(description=_("what the action did"))
    def shown_action(self, alert: Alert) -> str:
        return action_text(alert)

    @display(description=_("after a rollback"))
    def shown_after_roll_back(self, alert: Alert) -> str:
        return after_roll_back_text(alert)

    @display(description=_("severity"), ordering="severity", label=SEVERITY_LABELS)
    def severity_label(self, alert: Alert) -> tuple[str, str]:
        return alert.severity, alert.get_severity_display()


# Destinations are created on the pages of a project; their secrets are shown nowhere.
@admin.register(AlertDestination)
class AlertDestinationAdmin(OnlyShows):
    list_display = (
        "name",
        "project",
        "kind",
        "hint",
        "least_severity",
        "is_on",
        "created_by",
        "changed_by",
        "changed_at",
    )
    list_filter = ("kind", "is_on", "project")
    list_select_related = ("project", "created_by", "changed_by")
    search_fields = ("name", "project__name")
    exclude = ("secret",)
    list_per_page = 50


@admin.register(MailAccount)
class MailAccountAdmin(OnlyShows):
    list_display = ("project", "user", "host", "port", "security", "changed_by", "changed_at")
    list_select_related = ("project", "changed_by")
    exclude = ("secret",)


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(OnlyShows):
    list_display = ("shown_alert", "destination", "moment", "state_label", "tries", "due_at", "sent_at", "shown_error")
    list_filter = ("state", "moment", "destination__project", "destination__kind")
    list_select_related = ("alert", "destination__project")
    search_fields = ("alert__title", "destination__name")
    fields = readonly_fields = (
        "shown_alert",
        "destination",
        "moment",
        "state",
        "created_at",
        "due_at",
        "tries",
        "shown_error",
        "message",
        "sent_at",
    )
    list_per_page = 50

    @display(description=_("error"))
    def shown_error(self, delivery: AlertDelivery) -> str:
        return error_of(delivery)

    @display(description=_("alert"), ordering="alert__title")
    def shown_alert(self, delivery: AlertDelivery) -> str:
        return f"{delivery.alert.run_id} · {texts_of(delivery.alert).title}"

    @display(description=_("state"), ordering="state", label=STATE_LABELS)
    def state_label(self, delivery: AlertDelivery) -> tuple[str, str]:
        return delivery.state, delivery.get_state_display()
