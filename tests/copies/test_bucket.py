"""A portal that stores pushed checkpoints in a bucket: push, download, start elsewhere, outage, doctor, settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from monitor_site.environment.bucket import Bucket, bucket
from monitor_site.environment.files import Environment
from tests.copies.bucket_server import KEYS, NAME, PREFIX, BucketServer, needs_bucket
from tests.remote.test_from import GOING_ON
from tests.remote.test_push import downloaded
from tests.remote.test_run import ended, installation, opened_run, points
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows, wait_for

# Large enough for an upload in several parts.
SAVING = """
import steersman, torch

run = steersman.attach()
run.log(1, loss=1.0)
run.save_checkpoint("good", {"weights": torch.arange(1_300_000) + 1}, step=1)
"""
Places = tuple[BucketServer, Stack, Portal, TrainingHost, TrainingHost]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("bucket")
    server = BucketServer()
    server.start()
    server.make_bucket()
    with installation(folder, **server.variables) as (stack, portal, first):
        portal.start()
        second = TrainingHost(stack, folder / "second")
        first.script(SAVING, "saving.py")
        second.script(GOING_ON, "going_on.py")
        try:
            yield server, stack, portal, first, second
        finally:
            second.close()
            server.stop()


def saved(host: TrainingHost, stack: Stack, name: str) -> tuple[int, Path]:
    """Train on a host; return the run, and the folder of its checkpoint."""
    command = host.start("run", "--name", name, "--", sys.executable, "saving.py")
    assert ended(command, host) == 0, host.printed()
    (folder,) = host.launch.glob("attempts/1/checkpoints/*")
    return opened_run(stack, name), folder


@needs_bucket
def test_a_checkpoint_is_pushed_to_the_bucket_and_another_host_begins_there(places: Places):
    server, stack, _, first, second = places
    run, folder = saved(first, stack, "source")
    assert ended(first.start("push", str(folder)), first) == 0, first.printed()
    objects = server.objects()
    assert {Path(name).name: content for name, content in objects.items()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert all(name.startswith(f"{PREFIX}/{run}/") for name in objects)
    # Nothing stays on the disk of the portal.
    assert not [path for path in (stack.data / "pushed").rglob("*") if path.is_file()]
    (row,) = rows(stack, "SELECT id FROM runs_checkpoint WHERE run_id = ?", run)
    assert downloaded(stack, run, row["id"]) == {path.name for path in folder.iterdir()}
    words = ("run", "--name", "elsewhere", "--from", str(run), "--", sys.executable, "going_on.py")
    assert ended(second.start(*words), second) == 0, second.printed()
    assert points(stack, opened_run(stack, "elsewhere"), "loss") == [2, 3, 4]
    stack.manage("shell", "-v", "0", "-c", f"from runs.curation.deletion import delete_run\ndelete_run({run})")
    assert not server.objects()


@needs_bucket
def test_a_push_waits_for_a_bucket_that_is_unavailable(places: Places):
    server, stack, _, first, _ = places
    run, folder = saved(first, stack, "waits")
    server.stop()
    length = len(first.output("err.log"))
    push = first.start("push", str(folder))
    told = "The storage of the pushed checkpoints is unavailable: try again later."
    wait_for(lambda: told in first.output("err.log")[length:], first.printed)
    assert push.poll() is None
    server.start()
    assert ended(push, first) == 0, first.printed()
    assert "Traceback" not in first.output("err.log")[length:]
    assert len(server.objects()) == len(list(folder.iterdir()))
    assert rows(stack, "SELECT id FROM runs_checkpoint WHERE run_id = ? AND pushed_at IS NOT NULL", run)
    log = (stack.folder / "web.log").read_text()
    assert "the storage of pushed checkpoints is unavailable: EndpointConnectionError" in log and "Traceback" not in log
    # The sentence comes once, not with every attempt.
    assert first.output("err.log")[length:].count(told) == 1

    # A run that is deleted meanwhile: `watch` removes its copies when the bucket answers.
    server.stop()
    stack.manage("shell", "-v", "0", "-c", f"from runs.curation.deletion import delete_run\ndelete_run({run})")
    server.start()
    assert server.objects()
    log_of_watch = stack.folder / "watch.log"
    with log_of_watch.open("ab") as output:
        watch = subprocess.Popen(stack.command("watch"), env=stack.environment, stdout=output, stderr=output)
    stack.trainings.append(watch)
    wait_for(lambda: not server.objects(), log_of_watch.read_text)
    watch.terminate()
    assert watch.wait(60) == 0


@needs_bucket
def test_the_doctor_tries_the_bucket_and_shows_no_secret(places: Places):
    server, stack, _, _, _ = places

    def copies() -> dict[str, str]:
        printed = stack.manage("doctor", "--json", check=False)
        assert KEYS["secret_key"] not in printed.stdout + printed.stderr
        (found,) = [each for each in json.loads(printed.stdout)["checks"] if each["name"] == "pushed copies"]
        return dict(found)

    before = server.objects()
    found = copies()
    assert found["level"] == "ok" and f"the bucket {NAME} at {server.address} stores" in found["text"]
    assert server.objects() == before
    server.stop()
    found = copies()
    assert found["level"] == "problem" and "STEERSMAN_S3_" in found["remedy"]
    server.start()


def given(monkeypatch: pytest.MonkeyPatch, **changed: str) -> Environment:
    known = {
        "BUCKET": NAME, "ENDPOINT": "https://minio.example.org/", "ACCESS_KEY": "a", "SECRET_KEY": "quiet-river",
        "PREFIX": "/lab/",
    }  # fmt: skip
    for name, value in (known | changed).items():
        monkeypatch.setenv(f"STEERSMAN_S3_{name}", value)
    return Environment()


def test_the_settings_name_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.bucket.LIBRARIES", ("django",))
    chosen = bucket(given(monkeypatch))
    assert chosen == Bucket(NAME, "https://minio.example.org", "", "a", "quiet-river", "lab", "path")
    assert "quiet-river" not in repr(chosen)
    # Amazon's own, with the keys that boto3 finds.
    amazon = bucket(given(monkeypatch, ENDPOINT="", ACCESS_KEY="", SECRET_KEY="", PREFIX=""))
    assert amazon == Bucket(NAME, "", "", "", "", "", "virtual")
    for name in ("BUCKET", "ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "PREFIX"):
        monkeypatch.delenv(f"STEERSMAN_S3_{name}")
    assert bucket(Environment()) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"BUCKET": ""}, "STEERSMAN_S3_BUCKET is empty, but STEERSMAN_S3_ENDPOINT"),
        ({"ENDPOINT": "minio.example.org"}, "STEERSMAN_S3_ENDPOINT is 'minio.example.org': give the address"),
        ({"SECRET_KEY": ""}, "set both STEERSMAN_S3_ACCESS_KEY and STEERSMAN_S3_SECRET_KEY"),
        ({"ADDRESSING": "dns"}, "STEERSMAN_S3_ADDRESSING is 'dns': give path or virtual"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.bucket.LIBRARIES", ("django",))
    with pytest.raises(ImproperlyConfigured, match=named):
        bucket(given(monkeypatch, **changed))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.bucket.LIBRARIES", ("no_such_library",))
    with pytest.raises(ImproperlyConfigured, match="pip install -r requirements-s3.txt"):
        bucket(given(monkeypatch))
