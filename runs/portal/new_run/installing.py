"""The page with the lines that train on another machine: install the client, log in with a fresh token, start."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

import steersman
from runs.access.tokens import TokenRefused, create_token
from runs.client_packages.views import served_packages
from runs.models import Project, TokenScope
from runs.portal.new_run.form import startable_projects

CLIENT = "steersman"
CLIENT_OF_HOSTS = "steersman[agent]"
TRAIN_COMMAND = "steersman run -- python train.py"


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def install_client(request: HttpRequest) -> HttpResponse:
    """Show the lines, or the command that builds the client if the index has none. POST makes a token, shown once."""
    assert isinstance(request.user, User)
    projects = startable_projects(request.user).order_by("name")
    value = ""
    if request.method == "POST":
        value = _token_for_hosts(request.user, get_object_or_404(projects, slug=request.POST.get("project", "")))
    versions = {package.version for package in served_packages() if package.project == CLIENT}
    index = request.build_absolute_uri(reverse("client_index"))
    context = {
        "command": pip_command(index) if versions else "",
        "login_command": shlex.join(["steersman", "login", index.removesuffix("/client/simple/")]),
        "train_command": TRAIN_COMMAND,
        "versions": sorted(versions),
        "version": steersman.__version__,
        "is_of_this_version": versions == {steersman.__version__},
        "projects": projects,
        "value": value,
    }
    return render(request, "runs/install_client.html", context)


def _token_for_hosts(creator: User, project: Project) -> str:
    name = _("Training host, %(day)s") % {"day": timezone.localdate().isoformat()}
    try:
        return create_token(creator, project, TokenScope.TRAIN, name=name)[1]
    except TokenRefused as reason:
        # The creator was an operator a moment ago.
        raise PermissionDenied(str(reason)) from reason


def pip_command(index: str) -> str:
    """Return the command that installs the client from an index, quoted for a shell.

    Without TLS, pip accepts packages only from its own machine, or from a host that is declared as trusted.
    """
    address = urlsplit(index)
    words = ["pip", "install", "--index-url", index]
    if address.scheme != "https" and not _is_this_machine(address.hostname or ""):
        words += ["--trusted-host", address.netloc]
    return shlex.join([*words, CLIENT_OF_HOSTS])


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
