"""`steersman run --from`: a new run on another host begins at a checkpoint that was pushed to the portal."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.remote.test_run import ended, installation, opened_run, points
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows, run_row, wait_for

PATIENCE_S = 60.0
# Several megabytes, so that a download can be cut in the middle.
SAVING = """
import steersman, torch

run = steersman.attach()
rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
for step in range(1, 8):
    run.log(step, loss=1.0 / step)
    if step in (3, 5, 7):
        run.save_checkpoint(f"at {step}", {"weights": torch.arange(1_300_000) + step}, step=step)
"""
GOING_ON = """
import os, sys, time
import steersman, torch

run = steersman.attach()
saved = run.newest_checkpoint()
first = int(saved.load("weights")[0])
assert first == saved.step, (first, saved.step)
for step in range(saved.step + 1, saved.step + 4):
    run.log(step, loss=1.0 / step)
print("began at", saved.step, flush=True)
if os.environ.get("FAILS_ONCE") and not os.path.exists("failed"):
    open("failed", "w").close()
    sys.exit(3)
while os.path.exists("waits") and not run.stopping:
    run.log(saved.step + 4, loss=0.0)
    time.sleep(0.01)
"""
Places = tuple[Stack, Portal, TrainingHost, TrainingHost]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("from")
    with installation(folder) as (stack, portal, first):
        portal.start()
        second = TrainingHost(stack, folder / "second")
        try:
            first.script(SAVING, "saving.py")
            second.script(GOING_ON, "going_on.py")
            command = first.start("run", "--name", "source", "--", sys.executable, "saving.py")
            assert ended(command, first) == 0, first.printed()
            yield stack, portal, first, second
        finally:
            second.close()


def checkpoint_at(host: TrainingHost, step: int) -> Path:
    launches = host.folder / "steersman-runs" / "launches"
    return next(launches.glob(f"*/attempts/1/checkpoints/step-{step:08d}"))


def push(host: TrainingHost, step: int) -> None:
    assert ended(host.start("push", str(checkpoint_at(host, step))), host) == 0, host.printed()


def start(host: TrainingHost, name: str, source: str, *options: str, **variables: str) -> int:
    words = ("run", "--name", name, "--from", source, *options, "--", sys.executable, "going_on.py")
    return ended(host.start(*words, **variables), host)


def told(host: TrainingHost, length: int = 0) -> str:
    return host.output("err.log")[length:]


def test_another_host_begins_at_a_checkpoint_that_was_pushed(places: Places):
    stack, _, first, second = places
    source = opened_run(stack, "source")
    assert start(second, "too early", str(source)) == 2
    assert f"from: no checkpoint of run {source} is in the portal. On the host of the run, send a checkpoint" in told(
        second
    )
    push(first, 3)
    push(first, 5)
    length = len(told(second))
    # The third checkpoint is newer, but only its host has it.
    assert start(second, "elsewhere", str(source)) == 0, second.printed()
    assert f"the training begins at the checkpoint at 5 (step 5) of run {source}" in told(second, length)
    run = opened_run(stack, "elsewhere")
    assert points(stack, run, "loss") == [6, 7, 8]
    assert run_row(stack, run)["step"] == 8
    (branch,) = rows(stack, "SELECT * FROM runs_branch WHERE run_id = ?", run)
    assert (branch["source_id"], branch["checkpoint_name"], branch["step"]) == (source, "at 5", 5)
    (attempt,) = rows(stack, "SELECT resumed_step FROM runs_attempt WHERE run_id = ?", run)
    assert attempt["resumed_step"] == 5
    # What this host has is not fetched again.
    length = len(told(second))
    assert start(second, "again", f"{source}:at 5") == 0, second.printed()
    assert "is on this host already: nothing is downloaded" in told(second, length)
    assert not list((second.folder / "steersman-runs" / "downloads").glob("*/"))
    # Its own host needs no copy in the portal.
    first.script(GOING_ON, "going_on.py")
    assert start(first, "at home", f"{source}:at 7") == 0, first.printed()
    assert points(stack, opened_run(stack, "at home"), "loss") == [8, 9, 10]


def test_what_cannot_be_is_refused_with_a_sentence(places: Places):
    stack, _, first, second = places
    source = opened_run(stack, "source")
    launches = second.folder / "steersman-runs" / "launches"
    before = set(launches.glob("*"))
    for wanted, sentence in (
        (f"{source}:nothing", f"from: run {source} has no checkpoint nothing. You can start from {source}:"),
        (
            f"{source}:at 7",
            f"(at 7, step 7) of run {source} is not in the portal. On the host of the run, send a checkpoint with",
        ),
        (f"{source}:best", f"no checkpoint of run {source} that was saved as the best is in the portal"),
        ("999999", "The project Lab has no run 999999, or it was deleted"),
        ("x", "give the number of a run"),
    ):
        length = len(told(second))
        assert start(second, "refused", wanted) == 2 and sentence in told(second, length), second.printed()
    assert set(launches.glob("*")) == before and not opened_run(stack, "refused")
    # A run of another project.
    program = (
        "from runs.models import Project\n"
        "project = Project.objects.create(name='Other', slug='other')\n"
        "print(project.runs.create(name='foreign').pk)"
    )
    foreign = stack.manage("shell", "-v", "0", "-c", program).stdout.strip()
    assert start(second, "refused", foreign) == 2
    assert "For a run of another project, use a token of that project" in told(second)


def test_a_restart_and_a_known_key_go_on_from_their_own_checkpoints(places: Places):
    stack, _, first, second = places
    source = opened_run(stack, "source")
    push(first, 3)
    (second.folder / "failed").unlink(missing_ok=True)
    (second.folder / "waits").touch()
    words = (
        "run",
        "--name",
        "restarted",
        "--from",
        f"{source}:at 3",
        "--restarts",
        "1",
        "--key",
        "night",
        "--nproc",
        "1",
    )
    command = second.start(*words, "--", sys.executable, "going_on.py", FAILS_ONCE="1")

    def began() -> int:
        assert command.poll() is None, second.printed()
        return second.output("out.log").count("began at 3")

    wait_for(lambda: began() == 2, lambda: f"the restart\n{second.printed()}", PATIENCE_S)
    killed = second.kill_host_process()
    wait_for(lambda: second.host_process not in (None, killed), "another host process", PATIENCE_S)
    (second.folder / "waits").unlink()
    assert ended(command, second) == 0, second.printed()
    assert told(second).count("downloading the checkpoint at 3") == 1
    run = opened_run(stack, "restarted")
    assert [row["step"] for row in rows(stack, "SELECT step FROM runs_branch WHERE run_id = ?", run)] == [3]
    assert run_row(stack, run)["attempt"] == 2
    for other, sentence in ((f"{source}:at 5", "has begun already, and not from"), (f"{source}:at 3", "has finished")):
        length = len(told(second))
        assert start(second, "ignored", other, "--key", "night") == 2
        assert sentence in told(second, length)
    # Another host has no such launch, but the portal knows the key.
    assert start(first, "ignored", f"{source}:at 5", "--key", "night") == 2
    assert f"Run {run} already has this key, but did not begin at that checkpoint" in told(first)


def test_it_never_begins_at_the_first_step_instead(places: Places):
    stack, _, first, second = places
    source = opened_run(stack, "source")
    push(first, 3)
    (second.folder / "failed").unlink(missing_ok=True)
    options = ("--key", "lost")
    assert start(second, "lost", f"{source}:at 3", *options, FAILS_ONCE="1") == 3, second.printed()
    shutil.rmtree(second.launch / "attempts" / "0")
    assert start(second, "lost", f"{source}:at 3", *options) == 1, second.printed()
    assert f"The checkpoint at 3 of run {source}, at which this training begins, is gone" in told(second)
    row = run_row(stack, opened_run(stack, "lost"))
    assert (row["state"], row["attempt"]) == ("failed", 2) and "is gone or damaged" in row["reason"]


RANKS = """
import os, steersman

run = steersman.attach()
saved = run.newest_checkpoint()
if os.environ["RANK"] == "0":
    run.log(saved.step + 1, loss=1.0)
print(f"rank {os.environ['RANK']} began at {saved.step} of {saved.folder.name}", flush=True)
"""


def test_all_ranks_begin_at_the_same_files(places: Places):
    stack, _, first, second = places
    source = opened_run(stack, "source")
    push(first, 3)
    second.script(RANKS, "ranks.py")
    torchrun = ("--standalone", "--no-python", "--nproc-per-node=2", "steersman")
    words = ("run", "--name", "ranks", "--from", f"{source}:at 3", "--", "python", "ranks.py")
    assert ended(second.launch_by("torchrun", *torchrun, *words), second) == 0, second.printed()
    for rank in (0, 1):
        assert f"rank {rank} began at 3 of step-00000003" in second.output("out.log"), second.printed()
    assert run_row(stack, opened_run(stack, "ranks"))["ranks"] == 2


class Cutting:
    """Passes connections on to a portal, and holds the first answer that is longer than `limit` bytes there."""

    def __init__(self, address: str, limit: int) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._portal = (host, int(port))
        self._limit = limit
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.requests: list[str] = []
        self.received = 0
        self.is_open = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.is_open.set()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                portal = socket.create_connection(self._portal)
                threading.Thread(target=self._send, args=(client, portal), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, portal), daemon=True).start()

    def _send(self, client: socket.socket, portal: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                self.requests += re.findall(r"GET (\S*copies/\S*offset=\d+)", data.decode("latin-1"))
                portal.sendall(data)
            portal.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, portal: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := portal.recv(1 << 16):
                client.sendall(data)
                passed += len(data)
                if passed > self._limit and not self.is_open.is_set():
                    self.is_open.wait()
                    break
        for each in (client, portal):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_download_goes_on_where_it_stopped(places: Places, tmp_path: Path, is_killed: bool):
    stack, _, first, _ = places
    source = opened_run(stack, "source")
    push(first, 5)
    host = TrainingHost(stack, tmp_path / "third")
    host.script(GOING_ON, "going_on.py")
    proxy = Cutting(stack.address, 1 << 20)
    words = ("run", "--name", f"cut {is_killed}", "--from", f"{source}:at 5", "--", sys.executable, "going_on.py")
    downloads = host.folder / "steersman-runs" / "downloads"
    try:
        command = host.start(*words, STEERSMAN_PORTAL=proxy.address)

        def arrived() -> int:
            assert command.poll() is None, host.printed()
            return sum(path.stat().st_size for path in downloads.glob("*/*.pt"))

        wait_for(lambda: arrived() > 1 << 19, lambda: f"a part\n{host.printed()}", PATIENCE_S)
        assert not opened_run(stack, f"cut {is_killed}")
        if is_killed:
            command.kill()
            command.wait()
        proxy.is_open.set()
        if is_killed:
            command = host.start(*words, STEERSMAN_PORTAL=proxy.address)
        assert ended(command, host) == 0, host.printed()
    finally:
        proxy.close()
        host.close()
    offsets = [int(each.rpartition("=")[2]) for each in proxy.requests if ".pt" in each]
    assert offsets[0] == 0 and len(offsets) == 2 and offsets[1] > 1 << 19, proxy.requests
    assert ("The download continues when the portal answers." in told(host)) != is_killed
    assert points(stack, opened_run(stack, f"cut {is_killed}"), "loss") == [6, 7, 8]
    # A killed command leaves a launch that never began: nothing of it is to be sent.
    assert ended(host.start("sync"), host) == 0, host.printed()
