"""`make demo`: accounts, what it shows, what it restores, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User

from monitor_site.serving import child_processes
from monitor_site.serving.child_processes import Child
from monitor_site.serving.demo.accounts import LOGINS_FILE, prepare_accounts
from monitor_site.serving.embedded_server import EmbeddedServer
from monitor_site.serving.status_line import StatusLine
from runs.models import Membership, Role
from tests.support.stack import ROOT, free_port, wait_for

DEMO_TIMEOUT_S = 180.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class RunningDemo:
    """A demo in a separate process, whose output goes to a file."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.output = data.parent / "output.txt"
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo"],
            cwd=ROOT,
            # For the demo's training, and for runs that people start and queue meanwhile.
            env=os.environ | {"STEERSMAN_DATA": str(data), "STEERSMAN_PORT": str(port), "STEERSMAN_CPU_SLOTS": "3"},
            stdout=self.output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the match of a line that the demo prints."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text(), re.MULTILINE)
            assert found or self.process.poll() is None, self.text()
            return found

        return wait_for(look, pattern, DEMO_TIMEOUT_S)

    def child(self, part: str) -> psutil.Process | None:
        """Return the process of this demo whose command line contains `part`."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if process.status() != psutil.STATUS_ZOMBIE and part in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def wait_for_child(self, part: str, other_than: int = 0) -> psutil.Process:
        def look() -> psutil.Process | None:
            found = self.child(part)
            return found if found and found.pid != other_than else None

        return wait_for(look, part, DEMO_TIMEOUT_S)


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="steersman-demo-test-"))
    data = folder / "data"
    data.mkdir(mode=0o700)
    yield data
    for process in processes_of(data):
        process.kill()
    shutil.rmtree(folder)
    shutil.rmtree(EmbeddedServer(data).socket.parent, ignore_errors=True)


def processes_of(data: Path) -> list[psutil.Process]:
    """Return the processes that name the data folder, or its socket, in environment or command line."""
    marks = (str(data), str(EmbeddedServer(data).socket))
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.environ().get("STEERSMAN_DATA", ""), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(mark in word for word in words for mark in marks):
            found.append(process)
    return found


def manage(data: Path, *words: str) -> str:
    """Run a management command on the data folder of a demo and return its output."""
    environment = os.environ | {"STEERSMAN_DATA": str(data)}
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def runs_of(data: Path) -> dict[int, list[psutil.Process]]:
    """Return the processes that supervise or train, by run; all others under 0."""
    found: dict[int, list[psutil.Process]] = {}
    for process in processes_of(data):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            folder = process.environ().get("STEERSMAN_ATTEMPT_FOLDER", "")
            run = words[words.index("--run-id") + 1] if "--run-id" in words else folder and Path(folder).parts[-3]
            found.setdefault(int(run or 0), []).append(process)
    return found


def page_answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=60) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_it_brings_back_what_is_killed_leaves_nothing_and_starts_again(data: Path) -> None:
    port = free_port()
    demo = RunningDemo(data, port)
    address = demo.wait_for(r"^portal (http://127\.0\.0\.1:\d+/)$")[1]
    run = demo.wait_for(r"^run (\d+) (\S+)$")
    assert run[2] == f"{address}runs/{run[1]}/"
    logins = re.findall(r"^login (\w+) (\w+) (\S+)$", demo.text(), re.MULTILINE)
    assert [role for role, _, _ in logins] == ["owner", "operator", "viewer", "admin"]

    portal = demo.wait_for_child("serve_portal")
    supervisor = demo.wait_for_child("train --run-id")
    worker = demo.wait_for_child("trainer.worker.main")
    embedded = demo.wait_for_child(f"unixsocket:{EmbeddedServer(data).socket}")
    watch = demo.wait_for_child("manage.py watch")
    for process in (portal, supervisor, embedded, watch):
        process.kill()
    demo.wait_for("^The embedded server has ended: starting it again")
    demo.wait_for("^The portal was ended by SIGKILL: starting it again")
    demo.wait_for("^The watch was ended by SIGKILL: starting it again")
    demo.wait_for_child("serve_portal", other_than=portal.pid)
    wait_for(lambda: page_answers(address), "the page")
    wait_for(EmbeddedServer(data).answers, "the embedded server")
    demo.wait_for_child("train --run-id", other_than=supervisor.pid)
    assert worker.is_running(), "the new supervisor takes over the worker that trained on"

    # A person's runs belong to the person, whether started by hand on this host or by the demo's watch.
    by_hand = int(manage(data, "create_run", "--quiet", "--project", "demo"))
    script = ("tests/trainings/short.py", "1000000", "0.01")
    theirs = subprocess.Popen(
        [sys.executable, "manage.py", "train", "--run-id", str(by_hand), "--", *script],
        cwd=ROOT, env=os.environ | {"STEERSMAN_DATA": str(data)}, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    queue = ("--project", "demo", "--recipe", "digits", "--device", "cpu", "--set", "epochs=100000", "--queue")
    queued = int(manage(data, "create_run", "--quiet", *queue))
    for run_id in (by_hand, queued):
        wait_for(lambda run_id=run_id: len(runs_of(data).get(run_id, [])) >= 2, f"training {run_id}\n{demo.text()}")

    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(DEMO_TIMEOUT_S) == 0
    assert re.search(r"^Training: stopped at step [\d,]+, checkpoint saved at step", demo.text(), re.MULTILINE)
    left = runs_of(data)
    assert left.keys() == {by_hand, queued} and all(len(processes) >= 2 for processes in left.values())
    for processes in left.values():
        for process in processes:
            process.kill()
    theirs.wait()
    manage(data, "shell", "-c", "from runs.models import Run; Run.objects.update(state='failed')")

    again = RunningDemo(data, port)
    second = again.wait_for(r"^run (\d+) ")
    assert int(second[1]) == queued + 1
    assert re.findall(r"^login (\w+) (\w+) (\S+)$", again.text(), re.MULTILINE) == logins
    # A worker that hangs cannot save: the second Ctrl-C does not wait for it.
    again.wait_for_child("trainer.worker.main").suspend()
    again.process.send_signal(signal.SIGTERM)
    again.wait_for("^Ending: the training saves a checkpoint")
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(DEMO_TIMEOUT_S) == 130
    assert processes_of(data) == []


def test_it_says_so_where_the_port_is_in_use(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = RunningDemo(data, port)
        assert demo.process.wait(DEMO_TIMEOUT_S) == 2
    assert demo.text().startswith(f"Port {port} is in use: ")
    assert demo.text().count("\n") == 1


@pytest.mark.django_db
def test_it_makes_an_account_for_every_role_and_keeps_it(tmp_path: Path) -> None:
    logins = prepare_accounts(tmp_path)
    roles = dict(Membership.objects.values_list("user__username", "role"))
    assert roles == {"owner": Role.OWNER, "operator": Role.OPERATOR, "viewer": Role.VIEWER, "admin": Role.OWNER}
    for login in logins:
        assert login.password is not None and User.objects.get(username=login.user).check_password(login.password)
    assert len({login.password for login in logins}) == 4
    assert list(User.objects.filter(is_superuser=True).values_list("username", flat=True)) == ["admin"]
    assert stat.S_IMODE((tmp_path / LOGINS_FILE).stat().st_mode) == 0o600
    assert prepare_accounts(tmp_path) == logins


@pytest.mark.django_db
def test_it_neither_changes_nor_prints_a_password_that_someone_chose(tmp_path: Path) -> None:
    User.objects.create_superuser("admin", password="a person's own")
    admin = prepare_accounts(tmp_path)[3]
    assert str(admin) == "login admin admin (a password of your own)"
    assert User.objects.get(username="admin").check_password("a person's own")

    owner = User.objects.get(username="owner")
    owner.set_password("changed on the page")
    owner.save()
    assert prepare_accounts(tmp_path)[0].password is None


def test_it_updates_one_line_on_a_terminal() -> None:
    out = Terminal()
    status = StatusLine(out)
    status.show("step 1", "running")
    status.show("step 2", "running")
    status.say("The portal is back.")
    assert out.getvalue() == "step 1\r\x1b[2Kstep 2\r\x1b[2KThe portal is back.\nstep 2"


def test_it_prints_a_line_now_and_then_and_for_each_state_without_a_terminal() -> None:
    out = io.StringIO()
    status = StatusLine(out)
    for step, state in ((1, "running"), (2, "running"), (3, "stopped")):
        status.show(f"step {step}", state)
    assert out.getvalue() == "step 1\nstep 3\n"


def test_a_child_that_keeps_ending_is_started_again_after_longer_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(child_processes.time, "monotonic", lambda: clock[0])
    child = Child("portal", [sys.executable, "-c", "print('no'); raise SystemExit(3)"], tmp_path / "log", ROOT, {})
    child.start()
    for wait_s in (0.2, 0.4, 0.8):
        pid = child.pid
        assert child.wait(60)
        assert child.keep_alive() == "The portal ended with exit status 3: starting it again."
        clock[0] += wait_s * 0.9
        assert child.keep_alive() is None and child.pid == pid
        clock[0] += wait_s * 0.2
        assert child.keep_alive() is None and child.pid != pid
    assert child.wait(60)
    assert child.last_line() == "no"
