"""`steersman push`: a copy of a checkpoint for the portal, in pieces, verified, and removed with its run."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman.portal.pushing import PIECE_BYTES
from tests.remote.test_run import ended, installation, opened_run
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows

# Several pieces.
SAVING = """
import steersman, torch

run = steersman.attach()
run.log(1, loss=1.0)
run.save_checkpoint("good", {"weights": torch.arange(1_300_000, dtype=torch.float32)}, step=1)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Portal, TrainingHost]]:
    with installation(tmp_path_factory.mktemp("push")) as found:
        found[1].start()
        yield found


def call(stack: Stack, token: str, method: str, path: str, data: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(stack.address + path, data, {"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_push_goes_on_where_it_stopped_and_is_verified(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(SAVING, "saving.py")
    assert ended(host.start("run", "--", sys.executable, "saving.py"), host) == 0, host.printed()
    run_id = opened_run(stack, "saving.py")
    (folder,) = host.launch.glob("attempts/1/checkpoints/*")
    sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    (large,) = [path for path in folder.iterdir() if path.stat().st_size > 2 * PIECE_BYTES]
    place = f"/api/runs/{run_id}/copies/{sha256}/"
    copies = stack.data / "pushed" / str(run_id)

    # Only the token of the run, only its own checkpoints, and no names that lead elsewhere.
    other = stack.manage("create_token", "--project", "lab", "--user", "owner", "--scope", "train").stdout.strip()
    assert call(stack, other, "GET", place)[0] == 404
    assert call(stack, host.token, "GET", f"/api/runs/{run_id}/copies/{'0' * 64}/")[0] == 404
    assert call(stack, host.token, "PUT", f"{place}..%2Fx/?offset=0", b"x")[0] == 403
    assert call(stack, host.token, "PUT", f"{place}.hidden/?offset=0", b"x")[0] == 422
    assert call(stack, host.token, "PUT", f"{place}{large.name}/?offset=0", b"x" * (PIECE_BYTES + 1))[0] == 413

    # A wrong piece is found at the end, and nothing of it stays.
    assert call(stack, host.token, "PUT", f"{place}{large.name}/?offset=0", b"\1" * PIECE_BYTES)[0] == 200
    assert ended(host.start("push", str(folder)), host) == 1
    assert "The received files do not match the checkpoint" in host.output("err.log")
    assert not any(copies.glob("*"))

    # The first piece came with an earlier push: a second one at the same place would be refused.
    first = large.read_bytes()[:PIECE_BYTES]
    assert call(stack, host.token, "PUT", f"{place}{large.name}/?offset=0", first)[0] == 200
    status, said = call(stack, host.token, "PUT", f"{place}{large.name}/?offset=0", first)
    assert status == 409 and f"has the first {PIECE_BYTES} bytes" in said
    assert ended(host.start("push", str(folder)), host) == 0, host.printed()
    assert f"Pushed to run {run_id}: {stack.address}/runs/{run_id}/" in host.output("out.log")
    assert {path.name: path.read_bytes() for path in (copies / sha256).iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    status, said = call(stack, host.token, "GET", place)
    assert status == 200 and json.loads(said)["is_complete"] and not any(copies.glob("*.arriving"))
    # Again costs nothing.
    assert ended(host.start("push", str(folder)), host) == 0
    (row,) = rows(stack, "SELECT id, pushed_at FROM runs_checkpoint WHERE run_id = ?", run_id)
    assert row["pushed_at"]
    told = stack.manage("backup", str(host.folder / "backup.tar")).stdout
    assert f"Not in this backup: 1 checkpoints that were pushed to the portal, in {stack.data / 'pushed'}." in told
    assert downloaded(stack, run_id, row["id"]) == {path.name for path in folder.iterdir()}
    damaged_copies_are_repaired(stack, host, folder, copies / sha256, large.name, run_id)
    stack.manage("shell", "-v", "0", "-c", f"from runs.curation.deletion import delete_run\ndelete_run({run_id})")
    assert not copies.exists()


def damaged_copies_are_repaired(
    stack: Stack, host: TrainingHost, folder: Path, copy: Path, large: str, run_id: int
) -> None:
    """Damage the copy in the portal in several ways, and push again each time."""
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    def flip(name: str) -> None:
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)

    def pushed_again() -> str:
        length = len(host.output("err.log"))
        assert ended(host.start("push", str(folder)), host) == 0, host.printed()
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == whole
        return host.output("err.log")[length:]

    flip(large)
    assert f"The copy in the portal is damaged ({large})" in pushed_again()
    (copy / large).unlink()
    assert f"is damaged ({large})" in pushed_again()
    flip("manifest.json")
    assert "is damaged (manifest.json)" in pushed_again()
    (copy / "manifest.json").unlink()
    assert "damaged" not in pushed_again()
    placed = "SELECT frame FROM runs_storedevent WHERE run_id = ? AND kind = 'checkpoint_placed' ORDER BY seq"
    told = [json.loads(row["frame"])["pushed"] for row in rows(stack, placed, run_id)]
    # Two pushes, three repairs, and the copy that had lost its manifest.
    assert told == [True, True, *[False, True] * 3, True]


def downloaded(stack: Stack, run_id: int, checkpoint_id: int) -> set[str]:
    """Return the files in the archive that the page of the run offers to an operator."""
    program = (
        "from django.contrib.auth.models import User\nfrom django.test import Client\nclient = Client()\n"
        "client.force_login(User.objects.get(username='operator'))\nprint(client.cookies['steersman_session'].value)"
    )
    session = stack.manage("shell", "-v", "0", "-c", program).stdout.strip()
    address = f"{stack.address}/runs/{run_id}/checkpoints/{checkpoint_id}/"
    request = urllib.request.Request(address, headers={"Cookie": f"steersman_session={session}"})
    with (
        urllib.request.urlopen(request, timeout=60) as answer,
        tarfile.open(fileobj=io.BytesIO(answer.read())) as archive,
    ):
        return {Path(name).name for name in archive.getnames()}


AWAY = """
from runs.copies.folder import CopyFolder

def refuse(*arguments):
    raise ConnectionRefusedError("nobody listens")

CopyFolder.exists = refuse
"""


def test_a_push_ends_if_the_storage_stays_unavailable_and_continues_later(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    restart(stack, AWAY)
    host.script(SAVING, "saving.py")
    length = len(host.output("err.log"))
    words = ("run", "--name", "gives up", "--push", "last", "--wait", "10", "--", sys.executable, "saving.py")
    assert ended(host.start(*words), host) == 0, host.printed()
    printed = host.output("err.log")[length:]
    assert printed.count("The storage of the pushed checkpoints is unavailable: try again later.") == 2, printed
    assert printed.count("The push continues when the portal answers.") == 1 and "was not pushed" in printed
    assert "Traceback" not in printed + (stack.folder / "web.log").read_text()
    restart(stack)
    (folder,) = host.launch.glob("attempts/1/checkpoints/*")
    assert ended(host.start("push", str(folder)), host) == 0, host.printed()
    pushed = "SELECT id FROM runs_checkpoint WHERE run_id = ? AND pushed_at IS NOT NULL"
    assert rows(stack, pushed, opened_run(stack, "gives up"))


def restart(stack: Stack, changed: str = "") -> None:
    assert stack.web is not None
    stack.web.kill()
    stack.web.wait()
    stack.start_web(changed)


CHOOSING = """
import steersman, torch

run = steersman.start(name="ignored", push="best")
for step, name in ((1, "best"), (2, "last"), (3, "other")):
    run.log(step, loss=1.0)
    run.save_checkpoint(name, {"step": step, "weights": torch.ones(4)}, step=step)
"""


def test_a_run_pushes_the_checkpoint_that_it_was_asked_for(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(CHOOSING, "choosing.py")
    pushed = "SELECT step FROM runs_checkpoint WHERE run_id = ? AND pushed_at IS NOT NULL ORDER BY step"
    for kind, steps in (("none", []), ("last", [3]), ("best", [1])):
        length = len(host.output("err.log"))
        words = ("run", "--name", f"pushes {kind}", "--push", kind, "--", sys.executable, "choosing.py")
        assert ended(host.start(*words), host) == 0, host.printed()
        found = [row["step"] for row in rows(stack, pushed, opened_run(stack, f"pushes {kind}"))]
        assert found == steps, host.printed()
        assert ("is in the portal" in host.output("err.log")[length:]) == bool(steps)
    # In its own process, its own push counts. The environment with torch finds the packages of the host.
    process = host.start_python("-c", START_BY_ITSELF)
    assert ended(process, host) == 0, host.printed()
    assert (
        "no checkpoint is pushed: the training saved none that --push best selects"
        in (host.launch / "host.log").read_text()
    )


START_BY_ITSELF = """
import steersman
with steersman.start(name="by itself", push="best") as run:
    run.log(1, loss=1.0)
"""


@pytest.mark.parametrize(
    ("folder", "told"),
    [(".", "does not belong to a run that is in a portal"), ("nowhere", "does not belong to a run")],
)
def test_what_is_no_checkpoint_is_named(places: tuple[Stack, Portal, TrainingHost], folder: str, told: str):
    _, _, host = places
    assert ended(host.start("push", folder), host) == 2 and told in host.output("err.log")
