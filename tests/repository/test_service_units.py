"""The service units: systemd accepts them, and their processes serve and end as the units say."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_HELD
from tests.support.stack import ROOT, Stack, wait_for

SYSTEMD = shutil.which("systemd-analyze")
UNITS = ROOT / "deploy" / "systemd"
PLACE = "/opt/steersman"
PORTAL, WATCH, RECORD = "steersman-portal@.service", "steersman-watch.service", "steersman-record.service"


def here(name: str) -> str:
    """Return the text of a unit with the paths of this checkout."""
    text = (UNITS / name).read_text()
    assert f"{PLACE}/.venv/bin/python" in text
    return text.replace(f"{PLACE}/.venv/bin/python", sys.executable).replace(PLACE, str(ROOT))


def service(name: str) -> dict[str, str]:
    """Return the entries of the section *Service*, each name once."""
    read = RawConfigParser(delimiters="=", comment_prefixes="#", strict=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(here(name))
    return dict(read["Service"])


@pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed (Debian's package systemd)")
@pytest.mark.parametrize("name", [PORTAL, WATCH, RECORD])
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    unit.write_text(here(name))
    done = subprocess.run([str(SYSTEMD), "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "ready"),
    [(PORTAL, "portal http://127.0.0.1:{port}/"), (WATCH, "watching "), (RECORD, "ready for training hosts")],
)
def test_what_a_unit_starts_serves_and_ends_in_time(name: str, ready: str) -> None:
    said = service(name)
    with Stack() as stack:
        stack.migrate()
        log = stack.folder / "unit.log"
        command = said["ExecStart"].replace("%i", str(stack.port)).replace("8764", str(stack.port)).split()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=said["WorkingDirectory"], env=stack.environment, stdout=output, stderr=output
            )
        try:
            line = ready.format(port=stack.port)
            wait_for(lambda: line in log.read_text() or process.poll() is not None, f"the process\n{log}")
            assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(int(said.get("TimeoutStopSec", "60"))) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def test_the_end_of_watch_ends_no_training_and_another_watch_is_no_reason_to_try_again() -> None:
    said = service(WATCH)
    assert said["KillMode"] == "process"
    assert said["RestartPreventExitStatus"].split() == [str(EXIT_BAD_INPUT), str(EXIT_HELD)]
