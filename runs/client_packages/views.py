"""The pages of the index and the files. No login is needed: the packages contain no secret."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.translation import gettext as _
from django.views.decorators.http import condition, require_safe
from packaging.utils import canonicalize_name

from runs.client_packages.answers import API_VERSION, files_json, projects_json, relative_address
from runs.client_packages.folder import Package, packages_of

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
# The first type is for clients that accept any type, such as browsers.
TYPES = ("text/html", HTML, JSON)


def served_packages() -> list[Package]:
    return packages_of(Path(settings.STEERSMAN_CLIENT_PACKAGES))


def no_packages() -> str:
    """Return the answer of an index without packages."""
    return _("This portal has no packages yet. On its host, in the root folder of the repository, run: make client")


@require_safe
def simple_index(request: HttpRequest) -> HttpResponse:
    """List the projects."""
    projects = sorted({package.project for package in served_packages()})
    if _wanted_type(request) == JSON:
        return _answer(HttpResponse(projects_json(projects), content_type=JSON))
    context = {"projects": projects, "empty": no_packages(), "api_version": API_VERSION}
    return _answer(render(request, "client/simple.html", context, content_type=_wanted_type(request)))


@require_safe
def simple_project(request: HttpRequest, project: str) -> HttpResponse:
    """List the files of a project; redirect other spellings of its name to the normalised one of PEP 503."""
    name = canonicalize_name(project)
    if name != project:
        return redirect("client_project", name)
    packages = [package for package in served_packages() if package.project == name]
    if not packages:
        text = _("There is no such package here.") if served_packages() else no_packages()
        return _answer(HttpResponse(text, status=404, content_type="text/plain; charset=utf-8"))
    if _wanted_type(request) == JSON:
        return _answer(HttpResponse(files_json(name, packages), content_type=JSON))
    files = [(package, relative_address(package)) for package in packages]
    context = {"project": name, "files": files, "api_version": API_VERSION}
    return _answer(render(request, "client/simple_project.html", context, content_type=_wanted_type(request)))


def _tag_of_file(request: HttpRequest, name: str) -> str | None:
    package = _package_named(name)
    return f'"{package.sha256}"' if package else None


@require_safe
@condition(etag_func=_tag_of_file)
def client_file(request: HttpRequest, name: str) -> HttpResponse:
    """Return a file of the index. `name` is only compared with known names, so that no other file can be read."""
    package = _package_named(name)
    if package is None:
        raise Http404
    try:
        content = package.path.read_bytes()
    except OSError as error:
        raise Http404 from error
    response = HttpResponse(content, content_type="application/octet-stream")
    # The same version may be built again, so a client has to revalidate its cached copy.
    patch_cache_control(response, no_cache=True)
    return response


def _package_named(name: str) -> Package | None:
    return next((package for package in served_packages() if package.name == name), None)


def _wanted_type(request: HttpRequest) -> str:
    return request.get_preferred_type(TYPES) or TYPES[0]


def _answer(response: HttpResponse) -> HttpResponse:
    patch_cache_control(response, no_cache=True)
    patch_vary_headers(response, ("Accept", "Accept-Language", "Cookie"))
    return response
