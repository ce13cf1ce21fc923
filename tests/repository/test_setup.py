"""`make setup`, the lock and the client package, in temporary folders."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def load(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{script}", ROOT / "scripts" / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browser_bundles = load("browser_bundles")
setup = load("setup")
debian_packages = load("debian_packages")
lock = load("lock")


def set_up(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "setup.py"), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like a clone, with nothing to install."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "requirements.lock").write_text("# nothing\n")
    return root


def test_it_makes_an_environment_once_and_again_where_it_is_half_made(clone: Path) -> None:
    first = set_up(clone)
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stdout
    assert (clone / ".venv" / "bin" / "pip").exists()
    second = set_up(clone)
    assert (second.returncode, second.stdout) == (0, "Set-up: nothing to do.\n")

    # The state that pip leaves when it is killed half-way.
    (clone / ".venv" / "steersman-unfinished").touch()
    (clone / ".venv" / "bin" / "pip").unlink()
    third = set_up(clone)
    assert third.returncode == 0, third.stderr
    assert "making .venv again" in third.stdout
    assert (clone / ".venv" / "bin" / "pip").exists()
    assert set_up(clone).stdout == "Set-up: nothing to do.\n"

    # The end of pip's output contains the cause.
    (clone / "requirements.lock").write_text("./missing-1.0-py3-none-any.whl\n")
    done = set_up(clone)
    assert done.returncode == 2
    assert "pip could not install" in done.stderr
    assert "missing-1.0-py3-none-any.whl" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_environment_whose_python_is_gone_is_made_again(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = clone / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").touch()
    (venv / "steersman-setup.json").write_text("{}")
    (venv / "bin" / "python").symlink_to("/nonexistent/python")
    called: list[list[str]] = []
    monkeypatch.setattr(setup.Setup, "_call", lambda self, command, problem: called.append(command))
    setup.Setup(clone)._environment()
    assert "making .venv again" in capsys.readouterr().out
    assert called == [[sys.executable, "-m", "venv", str(venv)]] and not (venv / "bin").exists()


def test_it_names_the_folder_to_remove_where_someone_elses_environment_is_broken(clone: Path) -> None:
    (clone / ".venv" / "lib").mkdir(parents=True)
    done = set_up(clone)
    assert done.returncode == 2
    assert "remove that folder" in done.stderr and str(clone / ".venv") in done.stderr
    assert (clone / ".venv" / "lib").is_dir()


def test_it_says_which_python_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "OLDEST_PYTHON", (9, 9))
    with pytest.raises(setup.SetupError, match=r"needs 9\.9 or newer.*apt-get install"):
        setup.check_python()


def test_it_names_the_package_of_a_missing_venv_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(setup.SetupError, match=r"apt-get install python3\.\d+-venv"):
        setup.check_python()


def test_it_says_so_where_the_chosen_python_is_not_there() -> None:
    done = subprocess.run(
        ["make", "setup", "PYTHON=/nonexistent/python"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "/nonexistent/python is not there" in done.stderr


def test_it_names_missing_debian_packages_to_users_who_are_not_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian_packages, "starts", lambda program: program != "chromium")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert debian_packages.main() == 2
    assert "sudo apt-get install -y --no-install-recommends chromium" in capsys.readouterr().err


def test_it_bundles_again_where_a_script_changed_and_installs_only_where_the_lock_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    scripts, vendor, modules = tmp_path / "static" / "js", tmp_path / "static" / "vendor", tmp_path / "node_modules"
    (scripts / "run").mkdir(parents=True)
    lock_file, own, script = tmp_path / "package-lock.json", tmp_path / "bundles.py", scripts / "run" / "main.js"
    for path in (lock_file, own, script):
        path.write_text("one")

    def install() -> None:
        done.append("install")
        modules.mkdir(exist_ok=True)
        (modules / ".package-lock.json").touch()

    def bundle(stamp: str) -> None:
        done.append("bundle")
        vendor.mkdir(exist_ok=True)
        (vendor / "stamp.txt").write_text(stamp)

    places = {"ROOT": tmp_path, "SCRIPTS": scripts, "VENDOR": vendor, "STAMP": vendor / "stamp.txt",
              "INSTALLED": modules / ".package-lock.json", "__file__": str(own)}  # fmt: skip
    for name, value in {**places, "install": install, "bundle": bundle}.items():
        monkeypatch.setattr(browser_bundles, name, value)

    def made() -> list[str]:
        done.clear()
        assert browser_bundles.main() == 0
        return list(done)

    assert made() == ["install", "bundle"] and made() == []
    script.write_text("two")
    assert made() == ["bundle"] and made() == []
    script.rename(scripts / "main.js")
    assert made() == ["bundle"]
    for path in (lock_file, own):
        path.write_text("two")
        assert made() == ["install", "bundle"]
    shutil.rmtree(modules)
    assert made() == [], "what is bundled is enough to serve the pages"
    (scripts / "main.js").write_text("three")
    assert made() == ["install", "bundle"]


def test_a_changed_script_of_a_page_calls_for_the_bundles(clone: Path) -> None:
    (clone / "static" / "vendor").mkdir(parents=True)
    (clone / "static" / "vendor" / "stamp.txt").touch()
    (clone / "static" / "js" / "run").mkdir(parents=True)
    before = setup.Setup(clone)._browser_digest()
    (clone / "static" / "js" / "run" / "main.js").write_text("new")
    assert setup.Setup(clone)._browser_digest() != before


def test_it_pins_every_requirement() -> None:
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins), "no hashes, hosts or local versions"
    pinned = {name.lower().replace("_", "-"): version for name, version in (pin.split("==") for pin in pins)}
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            text = line.partition("#")[0].strip()
            if text and not text.startswith("-r"):
                wanted = Requirement(text)
                assert wanted.specifier.contains(pinned[wanted.name.lower().replace("_", "-")]), text


def test_it_leaves_out_local_versions_and_the_installer_when_it_pins() -> None:
    assert lock.pins("torch==2.13.0+cpu\npip==23.2\n-e git+x\nDjango==5.2.19\n") == ["Django==5.2.19", "torch==2.13.0"]


def test_it_tells_that_it_still_works_while_a_step_takes_long(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "TOLD_EVERY_S", 0.01)
    flag = clone / "go"
    script = f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)"
    waits = iter([False, False, True])

    def has_ended(process: subprocess.Popen[bytes]) -> bool:
        if next(waits):
            flag.touch()
            process.wait(60)
            return True
        return bool(original(process))

    original = setup._has_ended
    monkeypatch.setattr(setup, "_has_ended", has_ended)
    place = setup.Setup(clone)
    place.log.parent.mkdir(parents=True, exist_ok=True)
    place._call([sys.executable, "-c", script], "It failed")
    assert re.fullmatch(r"(\d+ s … ){2}", capsys.readouterr().out)
