"""The package that `make client` builds: installed alone, it logs, has type hints, and is complete."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import steersman
from tests.client_packages.conftest import CleanPython
from tests.support.stack import ROOT

SCRIPT = """
import sys

import steersman

run = steersman.attach()
run.plan(total_steps=2)
rate = run.knob("learning_rate", 1e-3, minimum=0.0)
for step in (1, 2):
    run.log(step, loss=rate.value)
run.finish()
assert not {"django", "torch", "numpy", "psutil"} & set(sys.modules)
print(steersman.__version__, steersman.__file__)
"""
IMPORT_ALL = """
import importlib, pkgutil, steersman
for found in pkgutil.walk_packages(steersman.__path__, "steersman."):
    importlib.import_module(found.name)
print("all")
"""
WRONG = "run.log('first', loss=0.5)\nrun.setp = 1\n"


def modules_of_the_clone() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / "steersman").rglob("*.py")}


def test_it_is_whole(client_packages: Path):
    wheel = next(client_packages.glob("steersman-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    assert code == modules_of_the_clone() | {"steersman/py.typed"}
    assert any(name.endswith("/LICENSE") for name in names)
    with tarfile.open(next(client_packages.glob("steersman-*.tar.gz"))) as sources:
        packed = {name.partition("/")[2] for name in sources.getnames()}
    assert {name.partition("/")[2] for name in code} | {"pyproject.toml", "LICENSE", "PKG-INFO"} <= packed


def test_it_needs_nothing_else_and_has_the_version_of_the_portal(
    client_packages: Path, clean_python: Callable[[str], CleanPython]
):
    clean = clean_python("bare")
    options = ("-m", "pip", "install", "--no-index", "--find-links", str(client_packages))
    clean.run(*options, "steersman")
    (clean.folder / "script.py").write_text(SCRIPT)
    version, place = clean.run("script.py").stdout.split()
    assert version == steersman.__version__ and Path(place).is_relative_to(clean.folder)
    installed = clean.run("-m", "pip", "list", "--format", "freeze").stdout
    assert {line.partition("==")[0] for line in installed.split()} == {"pip", "setuptools", "steersman"}
    assert_types_are_seen(clean)
    told = subprocess.run([clean.folder / "bin" / "steersman", "run", "--", "x"], capture_output=True, text=True)
    assert told.returncode == 1 and "run pip install 'steersman[agent]'" in told.stderr
    clean.run(*options, "steersman[agent]")
    assert clean.run("-c", IMPORT_ALL).stdout.strip() == "all"


def assert_types_are_seen(clean: CleanPython) -> None:
    """Check the script of a user with mypy: unchanged, and with two mistakes."""
    (clean.folder / "wrong.py").write_text(SCRIPT + WRONG)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(clean.folder / "cache")]
    mypy += ["--python-executable", str(clean.python)]
    right = subprocess.run([*mypy, "script.py"], cwd=clean.folder, capture_output=True, text=True)
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = subprocess.run([*mypy, "wrong.py"], cwd=clean.folder, capture_output=True, text=True)
    assert "[arg-type]" in wrong.stdout and "[attr-defined]" in wrong.stdout, wrong.stdout
