"""The page with the command that installs the client from the portal's own package index."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

import steersman
from runs.client_packages.views import served_packages

CLIENT = "steersman"


@never_cache
@login_required
@require_safe
def install_client(request: HttpRequest) -> HttpResponse:
    """Show the command that installs the client, or the one that builds it if the index has none."""
    versions = {package.version for package in served_packages() if package.project == CLIENT}
    context = {
        "command": pip_command(request.build_absolute_uri(reverse("client_index"))) if versions else "",
        "versions": sorted(versions),
        "version": steersman.__version__,
        "is_of_this_version": versions == {steersman.__version__},
    }
    return render(request, "runs/install_client.html", context)


def pip_command(index: str) -> str:
    """Return the command that installs the client from an index, quoted for a shell.

    Without TLS, pip accepts packages only from its own machine, or from a host that is declared as trusted.
    """
    address = urlsplit(index)
    words = ["pip", "install", "--index-url", index]
    if address.scheme != "https" and not _is_this_machine(address.hostname or ""):
        words += ["--trusted-host", address.netloc]
    return shlex.join([*words, CLIENT])


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
