"""The address of a client, under which its requests are counted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

# A household or a lab usually owns a whole /64 of IPv6, so counting single addresses would not slow anybody down.
NETWORK_BITS = 64


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client's address, or the network of an IPv6 address; "" if it is unknown.

    `forwarded_for` is the X-Forwarded-For header. It is used only behind a proxy (STEERSMAN_TLS), and only its last
    address, which the proxy added itself: a client may have sent the others.
    """
    found = exact_address(peer, forwarded_for)
    if found is None:
        return ""
    if isinstance(found, IPv6Address):
        return str(ip_network((found, NETWORK_BITS), strict=False))
    return str(found)


def exact_address(peer: str, forwarded_for: str) -> IPv4Address | IPv6Address | None:
    """Return the address of `client_address`, None if it is unknown."""
    told = _parse(forwarded_for.rpartition(",")[2]) if settings.BEHIND_TLS else None
    return told or _parse(peer)


def address_of(request: HttpRequest) -> str | None:
    """Return the client's address, or the first address of its IPv6 network; None if it is unknown."""
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
