"""`manage.py watch` as a process: which runs it starts, recovers, gives up and leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from steersman.agent.folders import host_name
from tests.chaos.slots import build_stub
from tests.support.stack import Stack, create_run, events, kill, rows, run_row, seed_stack, wait_for

HERE = host_name()


@pytest.fixture(scope="module")
def lab() -> Iterator[Stack]:
    """A separate stack, because a watch handles every run."""
    with Stack() as bare:
        seed_stack(bare)
        yield bare


@pytest.fixture
def watches(lab: Stack) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start_watch(lab: Stack, watches: list[subprocess.Popen[bytes]], **variables: str) -> subprocess.Popen[bytes]:
    with (lab.folder / "watch.log").open("ab") as log:
        watch = subprocess.Popen(
            lab.command("watch"), env=lab.environment | variables, stdout=log, stderr=log, start_new_session=True
        )
    watches.append(watch)
    heartbeat = host_heartbeat(lab)
    wait_for(lambda: host_heartbeat(lab) > heartbeat, lambda: f"the watch\n{lab.log()}")
    return watch


def host_heartbeat(lab: Stack) -> int:
    found = rows(lab, "SELECT heartbeat FROM runs_host WHERE name = ?", HERE)
    return int(found[0]["heartbeat"]) if found else -1


def attempt_of(lab: Stack, run_id: int) -> dict[str, Any]:
    return rows(lab, "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number DESC", run_id)[0]


def lives(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_starts_a_queued_run_that_outlives_it_and_brings_back_its_supervisor(
    lab: Stack, watches: list[subprocess.Popen[bytes]]
) -> None:
    watch = start_watch(lab, watches)
    arguments = ("--project", "lab", "--recipe", "digits", "--set", "epochs=100000", "--device", "cpu", "--queue")
    run_id = int(lab.manage("create_run", "--quiet", *arguments).stdout)
    wait_for(lambda: run_row(lab, run_id)["step"] > 3, lambda: f"points\n{lab.log()}")
    worker, supervisor = lab.worker_pid(run_id), attempt_of(lab, run_id)["supervisor_pid"]

    second = lab.manage("watch", check=False)
    assert second.returncode == 3
    assert f"process {watch.pid}" in second.stderr and HERE in second.stderr

    os.killpg(watch.pid, signal.SIGKILL)
    watch.wait()
    assert lives(supervisor) and lives(worker)
    os.kill(supervisor, signal.SIGKILL)
    start_watch(lab, watches)
    wait_for(lambda: attempt_of(lab, run_id)["adoptions"], lambda: f"the new supervisor\n{lab.log()}")
    assert lab.worker_pid(run_id) == worker and lives(worker)
    assert attempt_of(lab, run_id)["number"] == 1
    heartbeat = run_row(lab, run_id)["heartbeat"]
    wait_for(lambda: run_row(lab, run_id)["heartbeat"] > heartbeat, lambda: f"its heartbeat\n{lab.log()}")

    os.kill(attempt_of(lab, run_id)["supervisor_pid"], signal.SIGTERM)
    wait_for(lambda: run_row(lab, run_id)["state"] == "stopped", lambda: f"the end\n{lab.log()}")


def test_it_records_the_end_of_a_run_whose_processes_are_all_dead(
    lab: Stack, watches: list[subprocess.Popen[bytes]]
) -> None:
    start_watch(lab, watches)
    run_id = create_run(lab)
    supervisor = lab.train(run_id, "--quiet", "--", "tests/trainings/short.py", "1000000", "0.01")
    wait_for(lambda: run_row(lab, run_id)["step"] > 3, lambda: f"points\n{lab.log()}")
    worker = lab.worker_pid(run_id)
    assert worker is not None
    supervisor.kill()
    kill(worker)
    supervisor.wait()
    wait_for(lambda: run_row(lab, run_id)["state"] == "failed", lambda: f"the end\n{lab.log()}")
    assert "no exit record" in run_row(lab, run_id)["reason"]
    # The watch announces this at once, before it starts a process that reads the remains.
    assert [event["state"] for event in events(lab, run_id, "status")][-2:] == ["lost", "failed"]
    assert attempt_of(lab, run_id)["number"] == 1


def test_adopting_starts_nothing(lab: Stack) -> None:
    run_id = create_run(lab)
    assert lab.manage("train", "--run-id", str(run_id), "--adopt").returncode == 0
    assert (run_row(lab, run_id)["state"], run_row(lab, run_id)["attempt"]) == ("created", 0)


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler on this host")
def test_a_run_for_one_gpu_is_given_it_and_calls_it_its_first(
    lab: Stack, watches: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """This torch has no CUDA, so the run fails; its record then shows which device it was assigned."""
    start_watch(lab, watches, LD_LIBRARY_PATH=str(build_stub(tmp_path)), STUB_IDLE="1")
    create = ("create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--queue", "--host", HERE, "--device")
    second, beyond = (int(lab.manage(*create, device).stdout) for device in ("cuda:1", "cuda:2"))
    for run_id, device in ((second, "cuda"), (beyond, "cuda:2")):
        wait_for(lambda run_id=run_id: run_row(lab, run_id)["state"] == "failed", lambda: f"the refusal\n{lab.log()}")  # type: ignore[misc]
        assert f"{device} was requested, but this host has" in run_row(lab, run_id)["reason"]
    given = str(run_row(lab, second)["given_devices"])
    assert "GPU-bbbb" in given and "GPU-aaaa" not in given


def test_it_says_why_a_queued_run_cannot_start(lab: Stack, watches: list[subprocess.Popen[bytes]]) -> None:
    start_watch(lab, watches)
    schema = json.dumps([{"name": "size", "kind": "int", "maximum": 9, "default": 3}])
    rows(
        lab,
        "INSERT INTO runs_recipe (spec, title, description, parameters, knobs, source_sha256, published_at)"
        " VALUES ('gone:Mine', 'Mine', '', ?, '[]', '', '2026-01-01 00:00:00+00:00')",
        schema,
    )
    recipe = rows(lab, "SELECT id FROM runs_recipe WHERE spec = 'gone:Mine'")[0]["id"]
    run_id = create_run(lab, recipe_id=recipe, parameters='{"size": 10}', state="queued", queued_host=HERE)
    elsewhere = create_run(lab, recipe_id=recipe, state="queued", queued_host="another-host")
    wait_for(lambda: run_row(lab, run_id)["state"] == "failed", lambda: f"the refusal\n{lab.log()}")
    assert run_row(lab, run_id)["reason"] == "parameters: size takes a whole number of at most 9, not 10."
    assert run_row(lab, elsewhere)["state"] == "queued"
