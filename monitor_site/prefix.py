"""Serves the portal under a path prefix (STEERSMAN_PREFIX), whether the proxy removes the prefix or passes it on.

Only the setting determines the prefix. Daphne accepts a header, `Daphne-Root-Path`, from any client. Its value is
ignored here, because a client could otherwise choose the targets of the links on a page.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

PREFIX = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
# The portal's own paths: if one of them were the prefix, it would be unclear whether the proxy has removed it.
OWN_PATHS = frozenset(
    {"admin", "alerts", "api", "client", "healthz", "i18n", "invite", "login", "logout", "manifest.webmanifest"}
    | {"metrics", "password", "projects", "readyz", "runs", "second-factor", "sessions", "share", "sso", "static"}
    | {"texts", "texts.js", "ws"}
)

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def prefix_of(text: str) -> str:
    """Return a prefix such as "/steersman", "" for none. Raises `ValueError` with the remedy."""
    prefix = text.strip().rstrip("/")
    if not prefix:
        return ""
    if not PREFIX.fullmatch(prefix):
        raise ValueError(f"{text!r} is not a path of letters, digits and - _ . ~; give one such as /steersman")
    if prefix.split("/")[1] in OWN_PATHS:
        raise ValueError(f"{text!r} begins with a path that the portal itself uses: choose another, such as /steersman")
    return prefix


def under_prefix(application: Application, prefix: str) -> Application:
    """Return an ASGI application under `prefix`, which also works without it, because the proxy may remove it."""

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if "path" in scope:
            path = scope["path"]
            if prefix and path != prefix and not path.startswith(f"{prefix}/"):
                path = prefix + path
            scope = scope | {"root_path": prefix, "path": path}
        await application(scope, receive, send)

    return answer
