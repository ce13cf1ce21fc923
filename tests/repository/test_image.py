"""The contents of the image, checked without a build: the files of the context, and the mirrors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests import image_check, layout
from tests.image import buildah
from tests.support.stack import ROOT, last_json

# The client packages are in an image only if `make client` ran before.
MADE_BEFORE_A_BUILD = "build/client/packages"
# Folders of the repository that no image needs. A new folder must be listed here or allowed by .dockerignore.
NOT_IN_IMAGES = {*layout.TEST_FOLDERS, "docs"}


def copy_context(target: Path) -> None:
    """Copy the files that .dockerignore lets into a build, as an engine would."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    left_out = [line for line in lines[1:] if not line.startswith("!")]

    def ignored(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(ROOT)
        return {
            name
            for name in names
            for pattern in left_out
            if (fnmatch(name, pattern[3:]) if pattern.startswith("**/") else str(inside / name) == pattern)
        }

    target.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        if name == MADE_BEFORE_A_BUILD and not (ROOT / name).exists():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, target / name)


def test_the_context_of_the_image_holds_every_package_and_starts_alone(tmp_path: Path) -> None:
    context = tmp_path / "app"
    copy_context(context)
    made_here = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert sorted(folders - made_here - NOT_IN_IMAGES - {path.name for path in context.iterdir()}) == []
    files = [path.relative_to(ROOT) for path in layout.modules().values()]
    assert [str(file) for file in files if not (context / file).exists()] == []

    def entry(*command: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
        done = subprocess.run(
            [str(context / "deploy" / "entry.sh"), *command], cwd="/", capture_output=True, text=True,
            env=inherited | {"PATH": path, "STEERSMAN_DATA": str(tmp_path / "data"), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    entry("python", "manage.py", "migrate", "-v", "0")
    assert "digits" in entry("python", "manage.py", "recipes", "--publish")
    entry("python", "manage.py", "check")
    entry("python", "manage.py", "collectstatic", "--noinput", "-v", "0", "--dry-run")
    shown = "from django.template.loader import get_template as g; g('base.html'); g('400.html')"
    entry("python", "manage.py", "shell", "-v", "0", "-c", shown)


def test_nothing_private_is_in_the_context(tmp_path: Path) -> None:
    private = ROOT / "static" / ".env.test"
    private.touch()
    try:
        copy_context(tmp_path / "app")
    finally:
        private.unlink()
    names = {path.name for path in (tmp_path / "app").rglob("*")}
    assert "manage.py" in names
    assert not names & {".git", ".steersman", ".venv", ".env.test", "secrets", "__pycache__", "vendor", "node_modules"}


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("sources.list", "deb http://archive.ubuntu.com/ubuntu jammy main", "deb https://m.example/ubuntu jammy main"),
        ("sources.list.d/d.sources", "URIs: http://deb.debian.org/debian", "URIs: https://m.example/debian"),
        ("sources.list.d/other.list", "deb https://other.example/x y", "deb https://other.example/x y"),
    ],
)
@pytest.mark.parametrize("mirror", ["https://m.example", ""])
def test_packages_of_the_system_come_from_a_mirror_where_one_is_named(
    file: str, before: str, after: str, mirror: str, tmp_path: Path
) -> None:
    text = (ROOT / "Dockerfile").read_text()
    lines = re.findall(r'^RUN (\[ -z "\$APT_MIRROR" \](?:.*\\\n)*.*)', text, re.MULTILINE)
    # Both base images have the line, with the same words.
    assert len(lines) == len(re.findall(r"^FROM \$\{", text, re.MULTILINE)) == 2
    [line] = set(lines)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(before + "\n")
    command = line.replace("/etc/apt", str(tmp_path)).replace("\\\n", " ")
    subprocess.run(["sh", "-c", command], env=os.environ | {"APT_MIRROR": mirror}, check=True)
    assert (tmp_path / file).read_text() == (after if mirror else before) + "\n"


def test_without_buildah_the_check_says_so_and_exits_0() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.image_check"], cwd=ROOT, env=os.environ | {"PATH": "/nowhere"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout) == {"built": None}
    assert "Nothing was checked" in done.stderr and ("root" in done.stderr or "apt-get install" in done.stderr)


def test_the_check_builds_every_target_and_runs_every_line() -> None:
    text = (ROOT / "Dockerfile").read_text()
    reached = {stage.split()[0] for target in image_check.CHECKS for stage in buildah.run_lines(target, text)}
    assert reached == set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert json.dumps(buildah.run_lines("lab", text)) == '["base 1", "build 2", "application 1", "lab 1"]'
