"""The index as JSON: version 1.1 of the simple repository API (PEP 691, PEP 700)."""

from __future__ import annotations

import msgspec

from runs.client_packages.folder import Package

API_VERSION = "1.1"


class Meta(msgspec.Struct, frozen=True):
    api_version: str = msgspec.field(default=API_VERSION, name="api-version")


class ProjectName(msgspec.Struct, frozen=True):
    name: str


class Projects(msgspec.Struct, frozen=True):
    projects: list[ProjectName]
    meta: Meta = Meta()


class Hashes(msgspec.Struct, frozen=True):
    sha256: str


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """`url` is relative to the page, so that it is valid under any prefix; `size` is in bytes."""

    filename: str
    url: str
    hashes: Hashes
    size: int
    requires_python: str = msgspec.field(default="", name="requires-python")


class ProjectFiles(msgspec.Struct, frozen=True):
    name: str
    versions: list[str]
    files: list[File]
    meta: Meta = Meta()


def projects_json(projects: list[str]) -> bytes:
    return msgspec.json.encode(Projects([ProjectName(name) for name in projects]))


def files_json(project: str, packages: list[Package]) -> bytes:
    files = [
        File(package.name, relative_address(package), Hashes(package.sha256), package.size, package.requires_python)
        for package in packages
    ]
    return msgspec.json.encode(ProjectFiles(project, sorted({package.version for package in packages}), files))


def relative_address(package: Package) -> str:
    """Return the URL of a file, relative to the page of its project."""
    return f"../../files/{package.name}"
