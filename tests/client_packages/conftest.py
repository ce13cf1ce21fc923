"""The packages of `make client`, built once for these tests, and environments without access to this clone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stack import ROOT

# Variables and files that would configure other indexes or authorities for pip, or lead to this clone.
OF_MACHINES = ("PIP_", "PYTHON", "STEERSMAN_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(OF_MACHINES)} | {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
}


@dataclass(frozen=True)
class CleanPython:
    """The Python of a new virtual environment, away from this clone."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=CLEAN, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done


@pytest.fixture(scope="session")
def client_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages that `make client` builds for this Python and machine."""
    folder = tmp_path_factory.mktemp("client") / "packages"
    version = ".".join(map(str, sys.version_info[:2]))
    command = [sys.executable, str(ROOT / "scripts" / "client.py"), "--output", str(folder)]
    command += ["--python", version, "--platform", f"linux-{platform.machine()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def clean_python(tmp_path: Path) -> Callable[[str], CleanPython]:
    def make(name: str) -> CleanPython:
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / name)], check=True)
        return CleanPython(tmp_path / name)

    return make
