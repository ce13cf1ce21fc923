"""`make serve`: what it prints and refuses, whom it admits, and that trainings outlive it."""

from __future__ import annotations

import errno
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from monitor_site import addresses
from monitor_site.addresses import hosts_for, is_loopback, lan_addresses, portal_address
from monitor_site.serving.ports import cannot_listen
from monitor_site.serving.service import CannotRun, refuse_debug
from tests.remote_hosts.a_host import closed, socket_of
from tests.support.stack import ROOT, Stack, rows, run_row, seed_stack, wait_for

HERE = "192.168.7.5"


class RunningServe:
    """`manage.py serve` in a separate process, whose output goes to a file."""

    def __init__(self, stack: Stack, **variables: str) -> None:
        self.output = stack.folder / "serve.txt"
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
            env=stack.environment | variables,
            stdout=self.output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output.read_text(), re.MULTILINE)
            assert found or self.process.poll() is None, self.output.read_text()
            return found

        return wait_for(look, pattern)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def lab() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


def worker_lives(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return pid is not None


def test_it_starts_queued_runs_which_outlive_it(lab: Stack) -> None:
    seed_stack(lab)
    serve = RunningServe(lab)
    serve.wait_for("^Ctrl-C ends the portal; trainings continue")
    assert "no account yet" not in serve.output.read_text()
    assert lab.manage("serve", check=False).returncode == 2
    arguments = ("--project", "lab", "--recipe", "digits", "--set", "epochs=100000", "--device", "cpu", "--queue")
    run_id = int(lab.manage("create_run", "--quiet", *arguments).stdout)
    wait_for(lambda: run_row(lab, run_id)["step"] > 3, lambda: f"points\n{lab.log()}")
    worker = lab.worker_pid(run_id)
    assert serve.end(signal.SIGINT) == 0
    step = run_row(lab, run_id)["step"]
    wait_for(lambda: run_row(lab, run_id)["step"] > step, "more points without serve")

    again = RunningServe(lab)
    again.wait_for("^Ctrl-C ends the portal")
    assert worker_lives(worker) and lab.worker_pid(run_id) == worker
    again.process.kill()
    again.process.wait()
    assert worker_lives(worker)
    supervisor = rows(lab, "SELECT supervisor_pid FROM runs_attempt WHERE run_id = ?", run_id)[0]["supervisor_pid"]
    os.kill(supervisor, signal.SIGTERM)
    wait_for(lambda: run_row(lab, run_id)["state"] == "stopped", lambda: f"the end\n{lab.log()}")


def test_it_lets_other_machines_in_and_says_how_to_make_the_first_account(lab: Stack) -> None:
    serve = RunningServe(lab, STEERSMAN_BIND="0.0.0.0")
    serve.wait_for("^There is no account yet: create one .* createsuperuser")
    shown = re.findall(r"^from other machines http://([\d.]+):(\d+)/$", serve.output.read_text(), re.MULTILINE)
    assert [(address, str(lab.port)) for address in lan_addresses("0.0.0.0")] == shown
    assert f"portal http://127.0.0.1:{lab.port}/" in serve.output.read_text()
    for host, status in ((f"{address}:{port}", 302) for address, port in shown):
        assert status_of(lab.port, host) == status
    assert status_of(lab.port, "evil.example") == 400
    # The process that records other hosts answers on the same port, and is started again if it is killed.
    wait_for(lambda: answers_hosts(lab), "an answer to a training host")
    [record] = [child for child in psutil.Process(serve.process.pid).children() if "record" in child.cmdline()]
    record.kill()
    serve.wait_for("^The record was ended by SIGKILL: starting it again")
    wait_for(lambda: answers_hosts(lab), "an answer to a training host again")
    assert serve.end() == 0


def answers_hosts(lab: Stack) -> bool:
    try:
        with socket_of(lab, "", "run=1&attempt=1") as socket:
            return closed(socket)[0] == 4401
    except (OSError, InvalidStatus):
        return False


def status_of(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/", headers={"Host": host})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("command", ["serve", "serve_portal"])
def test_it_listens_for_other_machines_only_without_debug(lab: Stack, command: str) -> None:
    lab.environment |= {"STEERSMAN_BIND": "0.0.0.0", "STEERSMAN_DEBUG": "1"}
    refused = lab.manage(command, check=False)
    assert refused.returncode == 2
    assert "Unset STEERSMAN_DEBUG" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", ["serve", "serve_portal"])
def test_an_address_of_another_machine_is_not_called_a_port_in_use(lab: Stack, command: str) -> None:
    lab.environment |= {"STEERSMAN_BIND": "192.0.2.1"}
    refused = lab.manage(command, check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 2
    assert "is 192.0.2.1, which is no address of this host" in said
    assert "in use" not in said and "Traceback" not in said


def test_a_port_that_needs_permission_is_not_called_in_use() -> None:
    said = cannot_listen(PermissionError(errno.EACCES, "Permission denied"), "127.0.0.1", 80, "with --port")
    assert said == "You have no permission to listen on port 80: choose a port above 1023 with --port."


def test_debug_is_allowed_on_this_machine_alone(settings: Any) -> None:
    settings.DEBUG = True
    refuse_debug("127.0.0.1")
    with pytest.raises(CannotRun):
        refuse_debug("10.0.0.1")


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("lab", False)],
)
def test_it_knows_which_addresses_only_this_machine_reaches(bind: str, loopback: bool) -> None:
    assert is_loopback(bind) is loopback


def test_the_hosts_allowed_are_those_by_which_the_machine_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    local = ["localhost", "127.0.0.1", "[::1]"]
    assert hosts_for("127.0.0.1") == local
    monkeypatch.setattr(addresses, "lan_addresses", lambda bind: [HERE, "fd00::1"])
    monkeypatch.setattr(addresses.socket, "gethostname", lambda: "Gpu1")
    assert hosts_for("0.0.0.0") == [*local, HERE, "[fd00::1]", "gpu1", "gpu1.local"]


def test_the_address_that_people_are_told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.STEERSMAN_PORT = 8765
    assert portal_address("127.0.0.1") == "http://127.0.0.1:8765/"
    monkeypatch.setattr(addresses, "lan_addresses", lambda bind: [HERE])
    assert portal_address("0.0.0.0") == f"http://{HERE}:8765/"
    settings.STEERSMAN_ORIGINS = ["https://steersman.example"]
    assert portal_address("0.0.0.0") == "https://steersman.example/"
