"""What makes the portal an application of the browser: its manifest, and the build by which pages notice upgrades."""

from __future__ import annotations

from functools import cache

from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, JsonResponse
from django.templatetags.static import static
from django.urls import get_script_prefix, reverse
from django.utils.crypto import salted_hmac
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

import steersman

BUILD_CHARACTERS = 16
# The colours of the logo and of the light theme's ground.
THEME_COLOUR, GROUND_COLOUR = "#0b5fa5", "#f5f7fa"
# Static file, sizes, purpose. The picture of a maskable icon has a margin that launchers may cut off.
ICONS = (
    ("img/logo.svg", "any", "any"),
    ("img/icon-192.png", "192x192", "any"),
    ("img/icon-512.png", "512x512", "any"),
    ("img/icon-maskable-512.png", "512x512", "maskable"),
)
TYPES = {"svg": "image/svg+xml", "png": "image/png"}


@cache
def build_id() -> str:
    """Return a text that differs between two installations of different versions or static files.

    It does not reveal the version, because strangers receive it too.
    """
    files = getattr(staticfiles_storage, "manifest_hash", "")
    return salted_hmac("steersman.build", f"{steersman.__version__} {files}").hexdigest()[:BUILD_CHARACTERS]


def build(request: HttpRequest) -> dict[str, str]:
    """Context processor: templates write `build` into each page."""
    return {"build": build_id()}


@require_safe
def manifest(request: HttpRequest) -> JsonResponse:
    """Return the manifest with which browsers offer to install the portal. They request it without a login."""
    icons = [
        {"src": static(name), "sizes": sizes, "type": TYPES[name.rpartition(".")[2]], "purpose": purpose}
        for name, sizes, purpose in ICONS
    ]
    content = {
        "id": get_script_prefix(),
        "name": _("Steersman"),
        "short_name": _("Steersman"),
        "description": _("Live monitor and remote control for PyTorch trainings"),
        "lang": get_language(),
        "start_url": reverse("runs"),
        "scope": get_script_prefix(),
        "display": "standalone",
        "theme_color": THEME_COLOUR,
        "background_color": GROUND_COLOUR,
        "icons": icons,
    }
    return JsonResponse(content, content_type="application/manifest+json")
