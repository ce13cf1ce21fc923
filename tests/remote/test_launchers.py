"""`steersman run` under torchrun and Slurm: one run, however many processes the launcher starts, and however often."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.test_run import PATIENCE_S, installation, opened_run, points
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows, run_row, wait_for

# What torch.distributed is for: each step is a collective. The first two starts fail.
COLLECTIVE = """
import os, sys
import steersman, torch
import torch.distributed as distributed

run = steersman.attach()
# Not torchrun's store, which still has the addresses of the processes that failed.
place = os.path.abspath("store-" + os.environ["TORCHELASTIC_RESTART_COUNT"])
distributed.init_process_group("gloo", init_method="file://" + place, rank=run.rank, world_size=run.ranks)
checkpoint = run.newest_checkpoint()
first = checkpoint.step if checkpoint else 0
run.begin_at(first)
for step in range(first + 1, 9):
    value = torch.tensor([float(run.rank + step)])
    distributed.all_reduce(value)
    run.log(step, loss=value.item() / run.ranks)
    run.save_checkpoint("last", {"step": step}, step=step)
    distributed.barrier()
    if run.rank == 1 and step == {0: 5, 5: 7}.get(first):
        sys.exit(7)
print(f"rank {run.rank} of {run.ranks} from {first}", flush=True)
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Portal, TrainingHost]]:
    with installation(tmp_path_factory.mktemp("launchers")) as found:
        found[1].start()
        yield found


def test_torchrun_starts_one_run_and_continues_it(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(COLLECTIVE, "collective.py")
    command = host.launch_by(
        "torchrun", "--standalone", "--no-python", "--nproc-per-node=2", "--max-restarts=2", "--monitor-interval=0.1",
        "steersman", "run", "--", sys.executable, "collective.py",
    )  # fmt: skip
    for attempt in (1, 2, 3):
        # Each start loads torch in two processes, which takes long on a busy machine.
        wait_for(lambda at=attempt: attempts(stack) >= at, lambda at=attempt: f"attempt {at}\n{host.printed()}")
    wait_for(lambda: command.poll() is not None, lambda: f"the end\n{host.printed()}")
    assert command.returncode == 0, host.printed()
    run_id = opened_run(stack, "collective.py")
    assert len(rows(stack, "SELECT id FROM runs_run WHERE name = 'collective.py'")) == 1
    row = run_row(stack, run_id)
    assert (row["state"], row["attempt"], row["ranks"], row["step"]) == ("finished", 3, 2, 8), host.printed()
    assert Counter(points(stack, run_id, "loss")) == Counter(range(1, 9)), "points were lost or doubled"
    printed = host.output("out.log").splitlines()
    assert {"rank 0 of 2 from 7", "rank 1 of 2 from 7"} <= set(printed)
    ends = rows(stack, "SELECT outcome, error FROM runs_attempt WHERE run_id = ? ORDER BY number", run_id)
    assert [each["outcome"] for each in ends] == ["failed", "failed", "finished"]
    assert all("Rank 1" in each["error"] for each in ends[:2])
    # Each attempt keeps its last two. When the third began, those of the first were more than the run keeps.
    kept = rows(stack, "SELECT step FROM runs_checkpoint WHERE run_id = ? ORDER BY step", run_id)
    assert [each["step"] for each in kept] == [6, 7, 8]
    assert sorted(int(path.name[-8:]) for path in host.launch.glob("attempts/*/checkpoints/step-*")) == [6, 7, 8]
    started = rows(stack, "SELECT started FROM runs_remotelaunch WHERE run_id = ?", run_id)[0]["started"]
    assert (
        '"torchrun", "--standalone", "--no-python", "--nproc-per-node=2"' in started and '"steersman", "run"' in started
    )


# Without torch, which takes seconds to load.
UNTIL_ENOUGH = """
import os, time
import steersman

run = steersman.attach()
step = 0
while True:
    step += 1
    run.log(step, loss=1.0 / step)
    time.sleep(0.005)
"""


def test_ranks_outlive_their_host_process_and_end_with_torchrun(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(UNTIL_ENOUGH, "endless.py")
    command = host.launch_by(
        "torchrun",
        "--standalone",
        "--no-python",
        "--nproc-per-node=2",
        "steersman",
        "run",
        "--",
        "python",
        "endless.py",
    )
    run_id = wait_for(lambda: opened_run(stack, "endless.py"), lambda: f"the run\n{host.printed()}", PATIENCE_S)

    def goes_on() -> None:
        step = run_row(stack, run_id)["step"]
        wait_for(lambda: run_row(stack, run_id)["step"] > step + 20, lambda: f"steps\n{host.printed()}", PATIENCE_S)

    goes_on()
    killed = host.kill_host_process()
    wait_for(lambda: host.host_process not in (None, killed), "another host process", PATIENCE_S)
    goes_on()
    workers = [host.worker(), host.worker(rank=1)]
    assert all(lives(worker) for worker in workers) and run_row(stack, run_id)["attempt"] == 1
    command.kill()
    command.wait()
    wait_for(lambda: not any(lives(worker) for worker in workers), lambda: f"all to end\n{host.printed()}", PATIENCE_S)
    wait_for(lambda: run_row(stack, run_id)["state"] not in ("running", "lost"), "the end", PATIENCE_S)
    steps = points(stack, run_id, "loss")
    assert Counter(steps) == Counter(range(1, max(steps) + 1)), "points were lost or doubled"


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def attempts(stack: Stack) -> int:
    found = "SELECT max(attempt) AS newest FROM runs_run WHERE name = 'collective.py'"
    return int(rows(stack, found)[0]["newest"] or 0)
