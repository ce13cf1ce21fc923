"""The machines that start queued runs, as they told of themselves."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from runs.admin.readonly import OnlyShows
from runs.lifecycle import SILENT_AFTER_S
from runs.models import Host


@admin.register(Host)
class HostAdmin(OnlyShows):
    list_display = ("name", "life", "number_of_devices", "beat_at")
    search_fields = ("name",)
    readonly_fields = ("life",)
    fields = ("name", "life", "beat_at", "devices")

    @display(description=_("state"), label={"here": "success", "away": "danger"})
    def life(self, host: Host) -> tuple[str, str]:
        away = timezone.now() - host.beat_at > timedelta(seconds=SILENT_AFTER_S)
        return ("away", gettext("no sign of life")) if away else ("here", gettext("watching"))

    @display(description=_("devices"))
    def number_of_devices(self, host: Host) -> int:
        return len(host.devices)
