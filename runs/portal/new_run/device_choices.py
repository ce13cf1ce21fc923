"""The choices of devices for a new run: those of the hosts whose `watch` is alive, with their current use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.models import Host

MIB_A_GIB = 1024
HOST = re.compile(r"[\w.-]{0,255}")


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device of a host as a choice: `value` is "host/device", "/device" for any host."""

    value: str
    title: str
    use: str = ""
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class HostChoices:
    """The choices of one host; `note` explains why a run that is queued there would wait."""

    title: str
    devices: list[DeviceChoice]
    note: str = ""


def choice_value(host: str, device: str) -> str:
    return f"{host}/{device}"


def split_choice(value: str) -> tuple[str, str]:
    """Return (host, device) of a choice; the name of a device contains no slash."""
    host, _separator, device = value.rpartition("/")
    return host, device


def host_choices(
    hosts: Sequence[Host], wanted: str = "", waiting: Callable[[str], int] = lambda host: 0
) -> list[HostChoices]:
    """Return the choices of every host with a live watch, then of any host; `wanted` is offered in any case.

    `waiting` returns the number of runs that wait for a host.
    """
    groups = [
        HostChoices(
            host.name,
            [_auto(host.name), *(_choice(host.name, each) for each in host.devices)],
            _waiting_words(waiting(host.name)),
        )
        for host in hosts
    ]
    names = [("auto", _("Automatic")), ("cpu", _("CPU")), ("cuda", _("GPU"))]
    anywhere = [DeviceChoice(choice_value("", device), title) for device, title in names]
    groups.append(HostChoices(_("Any host"), anywhere, "" if hosts else _("No scheduler is running on any host.")))
    if wanted and wanted not in {each.value for group in groups for each in group.devices}:
        host, device = split_choice(wanted)
        known = [group for group in groups if host and group.title == host]
        title = _("currently offline") if known else _("this host is currently offline")
        groups.append(HostChoices(host or _("Any host"), [DeviceChoice(wanted, device)], title if host else ""))
    return groups


def _waiting_words(count: int) -> str:
    return ngettext("%(count)d run waits", "%(count)d runs wait", count) % {"count": count} if count else ""


def _auto(host: str) -> DeviceChoice:
    return DeviceChoice(choice_value(host, "auto"), _("Automatic"), _("the first GPU, or the CPU"))


def _choice(host: str, device: dict[str, Any]) -> DeviceChoice:
    name, utilisation = str(device["device"]), device.get("utilisation")
    title = str(device["title"]) if name == "cpu" else f"{name} · {device['title']}"
    parts = []
    if utilisation is not None:
        parts.append(_("%(percent)d %% busy") % {"percent": round(utilisation)})
    used, total = device.get("memory_used_mib"), device.get("memory_total_mib")
    if used is not None and total:
        parts.append(_("%(used).1f of %(total).1f GiB used") % {"used": used / MIB_A_GIB, "total": total / MIB_A_GIB})
    if not parts:
        parts.append(_("current use is unknown"))
    percent = None if utilisation is None else max(0, min(100, round(utilisation)))
    return DeviceChoice(choice_value(host, name), title, " · ".join(parts), percent)
