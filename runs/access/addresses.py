"""The address of a client, under which its requests are counted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# A household or a lab gets so many bits of IPv6 of its own: single addresses cost nobody anything.
NETWORK_BITS = 64


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client's address, of IPv6 its network; "" if it is not known.

    `forwarded_for` is what X-Forwarded-For says. It is believed behind a proxy alone (STEERSMAN_TLS), and of it the
    last address, which the proxy itself has seen: a client may have written those before it.
    """
    found = exact_address(peer, forwarded_for)
    if found is None:
        return ""
    if isinstance(found, IPv6Address):
        return str(ip_network((found, NETWORK_BITS), strict=False))
    return str(found)


def exact_address(peer: str, forwarded_for: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `client_address`, None if it is not known."""
    told = _parse(forwarded_for.rpartition(",")[2]) if settings.BEHIND_TLS else None
    return told or _parse(peer)


def address_of(request: HttpRequest) -> str | None:
    """Return the client's address of an HTTP request, of IPv6 the first of its network; None if it is not known."""
    found = client_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))
    return found.partition("/")[0] or None


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in `text`, which may have a port: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
