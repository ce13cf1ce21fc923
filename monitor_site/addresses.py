"""The addresses of the portal, from this machine's settings, without using the network."""

from __future__ import annotations

import socket

import psutil

from monitor_site.environment.this_machine import is_loopback

EVERYWHERE = ("0.0.0.0", "::")
# An address of a documentation network: connecting a datagram socket only chooses the route and sends nothing.
ELSEWHERE = ("192.0.2.1", 9)


def lan_addresses(bind: str) -> list[str]:
    """Return the addresses at which other machines reach a server that listens on `bind`, the most likely first."""
    if is_loopback(bind):
        return []
    if bind not in EVERYWHERE:
        return [bind]
    own = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not is_loopback(entry.address)
    ]
    first = _way_out()
    return sorted(dict.fromkeys(own), key=lambda address: address != first)


def hosts_for(bind: str) -> list[str]:
    """Return the names and addresses that are valid in a request's Host if the portal listens on `bind`."""
    local = ["localhost", "127.0.0.1", "[::1]"]
    if is_loopback(bind):
        return local
    name = socket.gethostname().lower()
    found = [f"[{address}]" if ":" in address else address for address in lan_addresses(bind)]
    return list(dict.fromkeys([*local, *found, name, f"{name}.local"]))


def portal_address(bind: str = "", port: int = 0) -> str:
    """Return the address for people: the first of STEERSMAN_ORIGINS, otherwise that on which the portal listens."""
    from django.conf import settings

    if settings.STEERSMAN_ORIGINS:
        return f"{settings.STEERSMAN_ORIGINS[0].rstrip('/')}{settings.STEERSMAN_PREFIX}/"
    bind = bind or settings.STEERSMAN_BIND
    host = next(iter(lan_addresses(bind)), "127.0.0.1")
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port or settings.STEERSMAN_PORT}{settings.STEERSMAN_PREFIX}/"


def _way_out() -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(ELSEWHERE)
            return str(probe.getsockname()[0])
    except OSError:
        return ""
