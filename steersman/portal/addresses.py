"""Addresses of portals, in the one form in which they are stored and compared."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


class BadAddress(ValueError):
    """A text that is not the address of a portal. It says what to give instead."""


def portal_address(text: str) -> str:
    """Return the address of a portal as scheme, host, port and prefix, without a slash at its end.

    Raises `BadAddress`.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(
            f"{text!r} is not an address ({error}): give one such as https://steersman.example.org"
        ) from None
    if parts.scheme not in ("http", "https") or not host:
        raise BadAddress(f"{text!r} is not the address of a portal: give one such as https://steersman.example.org")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadAddress(
            "The address of a portal must not contain a user name, ? or #: give one such as "
            "https://steersman.example.org"
        )
    shown = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    place = shown if port in (None, default) else f"{shown}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def is_readable_on_the_way(address: str) -> bool:
    """Return whether a token that is sent to this address can be read by others: without TLS, to another machine."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return parts.scheme != "https" and not is_here
