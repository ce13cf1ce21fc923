"""The hosts that start queued runs, as they report themselves."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from runs.admin.readonly import OnlyShows
from runs.models import Host
from runs.recording.liveness import host_is_living


@admin.register(Host)
class HostAdmin(OnlyShows):
    """Shows the reported fields of hosts as read-only; only the number of concurrent runs can be changed."""

    list_display = ("name", "life", "number_of_devices", "heartbeat_at")
    search_fields = ("name",)
    readonly_fields = ("name", "life", "heartbeat_at", "devices")
    fields = ("name", "life", "slots_per_device", "cpu_slots", "heartbeat_at", "devices")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_change_permission(self, request, obj))

    def save_model(self, request: HttpRequest, obj: Host, form: ModelForm, change: bool) -> None:
        # Only the changed fields: the watch writes heartbeat and devices meanwhile.
        obj.save(update_fields=form.changed_data)

    @display(description=_("state"), label={"here": "success", "away": "danger"})
    def life(self, host: Host) -> tuple[str, str]:
        living = host_is_living(host, timezone.now())
        return ("here", gettext("watching")) if living else ("away", gettext("no heartbeat"))

    @display(description=_("devices"))
    def number_of_devices(self, host: Host) -> int:
        return len(host.devices)
