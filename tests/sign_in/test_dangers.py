"""Every command refuses settings that would open the portal, and names the setting and the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT


def checked(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    command = [sys.executable, "manage.py", "check", *arguments]
    environment = {**kept, "STEERSMAN_DATA": str(tmp_path / "data"), **variables}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"STEERSMAN_SECRET_KEY": "secret"}, "STEERSMAN_SECRET_KEY can be guessed"),
        ({"STEERSMAN_SECRET_KEY": "ab" * 40}, "STEERSMAN_SECRET_KEY can be guessed"),
        ({"STEERSMAN_HOSTS": "lab.example.org,*"}, "STEERSMAN_HOSTS must not contain *"),
    ],
)
def test_it_does_not_start(tmp_path: Path, variables: dict[str, str], named: str) -> None:
    refused = checked(tmp_path, **variables)
    assert refused.returncode == 2
    assert named in refused.stderr and "Traceback" not in refused.stderr


def test_the_documented_settings_of_production_pass_djangos_checks(tmp_path: Path) -> None:
    """With the second factor and single sign-on, whose apps have additional checks."""
    passed = checked(
        tmp_path, "--deploy", "--fail-level", "WARNING",
        STEERSMAN_TLS="1", STEERSMAN_HOSTS="steersman.example.org", STEERSMAN_SECOND_FACTOR="totp",
        STEERSMAN_SECRET_KEY="".join(chr(48 + number) for number in range(64)),
        STEERSMAN_OIDC_ISSUER="https://id.example.org", STEERSMAN_OIDC_CLIENT_ID="a", STEERSMAN_OIDC_CLIENT_SECRET="b",
    )  # fmt: skip
    assert passed.returncode == 0, passed.stderr
