"""Out of memory as the end of an attempt: reported if there is proof, and never without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runs.models import RunState
from steersman.agent.machine.out_of_memory import KILLED, LATELY_S, OomKills, name_out_of_memory
from steersman.records.kinds import EndRecord
from tests.support.stack import ROOT, create_run, rows, run_row, wait_for
from trainer.control.exit_status import judge_end

PID = 7


class Kernel:
    """Files as the kernel shows them: the cgroups of process 7, and the kills in them."""

    def __init__(self, folder: Path, cgroup: str, counter: str, before: str = "") -> None:
        self.cgroups, self.processes = folder / "cgroup", folder / "proc"
        self._counter = self.cgroups / counter
        self._before = before
        (self.processes / str(PID)).mkdir(parents=True)
        (self.processes / str(PID) / "cgroup").write_text(cgroup)
        self._counter.parent.mkdir(parents=True)
        self.count(0)

    def count(self, kills: int) -> None:
        self._counter.write_text(f"{self._before}oom_kill {kills}\n")

    def watch(self) -> OomKills:
        return OomKills(PID, self.cgroups, self.processes)


V1 = "5:cpu,cpuacct:/a/b\n4:memory:/a/b\n0::/a\n"
KERNELS = {
    "v2": ("0::/user.slice/session-1.scope\n", "user.slice/session-1.scope/memory.events", "low 0\nmax 3\noom 1\n"),
    "v2, accounted by its parent": ("0::/user.slice/session-1.scope\n", "user.slice/memory.events", "oom 1\n"),
    "v2, in a container": ("0::/\n", "memory.events", "oom 1\n"),
    "v2, path of the host": ("0::/system.slice/docker-1.scope\n", "memory.events", "oom 1\n"),
    "v1": (V1, "memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
    "v1, in a container": (V1, "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_it_sees_a_kill_in_the_control_group(tmp_path: Path, kind: str):
    kernel = Kernel(tmp_path, *KERNELS[kind])
    kernel.count(4)
    watch = kernel.watch()
    assert not watch.has_killed(100.0)
    kernel.count(5)
    assert watch.has_killed(101.0)


def test_a_kill_of_long_ago_does_not_explain_an_end_now(tmp_path: Path):
    kernel = Kernel(tmp_path, *KERNELS["v2"])
    watch = kernel.watch()
    kernel.count(1)
    assert watch.has_killed(100.0)
    assert watch.has_killed(100.0 + LATELY_S)
    assert not watch.has_killed(101.0 + LATELY_S)


def test_it_knows_nothing_where_the_kernel_tells_nothing(tmp_path: Path):
    assert not OomKills(PID, tmp_path, tmp_path).has_killed(1.0)
    kernel = Kernel(tmp_path / "one", "0::/\n", "elsewhere/memory.events")
    assert not kernel.watch().has_killed(1.0)


def judged(code: int | None, said: dict[str, Any] | None = None, **facts: Any) -> Any:
    end = None if said is None else EndRecord(**said)
    return judge_end(code, end, **({"interrupted": False, "stopped": False} | facts))


def test_a_kill_with_proof_is_out_of_host_memory():
    end = judged(-9, oom_kill=True)
    assert (end.outcome, end.signal, end.error) == (RunState.FAILED, "SIGKILL", KILLED)
    assert end.error.startswith("Out of host memory: the kernel ended the process")


def test_a_kill_without_proof_is_not():
    end = judged(-9)
    assert "memory" not in end.error
    assert "SIGKILL" in end.error


def test_proof_without_a_kill_explains_nothing():
    assert "memory" not in judged(-11, oom_kill=True).error
    assert "memory" not in judged(3, oom_kill=True).error
    assert judged(0, {"outcome": "finished"}, oom_kill=True).outcome == RunState.FINISHED
    assert judged(None, {"outcome": "stopped"}, oom_kill=True).outcome == RunState.STOPPED
    assert "interrupt" in judged(-9, oom_kill=True, interrupted=True).error


def test_a_worker_that_was_not_our_child_and_vanished_at_a_kill_was_killed():
    assert judged(None, oom_kill=True).error == KILLED
    assert "memory" not in judged(None).error


def test_a_killed_child_of_the_training_is_out_of_host_memory_with_proof():
    error = "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. "
    said = {"outcome": "failed", "error": error, "traceback": "trace"}
    end = judged(1, said, oom_kill=True)
    assert end.error.startswith("Out of host memory") and end.error.endswith(error)
    assert end.traceback == "trace"
    assert judged(1, said).error == error


@pytest.mark.parametrize(
    "error",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
        "RuntimeError: Caught OutOfMemoryError in DataLoader worker process 0.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_it_names_out_of_gpu_memory_and_a_remedy(error: str):
    named = judged(1, {"outcome": "failed", "error": error, "traceback": ""}).error
    assert named.startswith("Out of GPU memory: make batch_size")
    assert named.endswith(error)


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_it_names_out_of_host_memory_and_a_remedy(error: str):
    named = name_out_of_memory(error)
    assert named.startswith("Out of host memory: make batch_size")
    assert named.endswith(error)


@pytest.mark.parametrize(
    "error", ["ValueError: out of memory cards", "mine.OutOfMemoryErrors: no", "KeyError: 'MemoryError'"]
)
def test_it_leaves_other_errors_alone(error: str):
    assert name_out_of_memory(error) == error


OUT_OF_GPU_MEMORY = """
import steersman, torch
run = steersman.attach()
run.log(1, loss=1.0)
raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 16.00 GiB.")
"""
HOST_ALLOCATIONS = {"python": "bytearray(1 << 60)", "torch": "import torch; torch.empty(1 << 58)"}


def ended(stack: Any, run_id: int) -> dict[str, Any]:
    (attempt,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    return attempt


def test_a_worker_out_of_gpu_memory_ends_with_that_name(offline_stack: Any, tmp_path: Path):
    script = tmp_path / "greedy.py"
    script.write_text(OUT_OF_GPU_MEMORY)
    run_id = create_run(offline_stack)
    result = offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", str(script), check=False)
    assert result.returncode == 1
    assert run_row(offline_stack, run_id)["reason"].startswith("Out of GPU memory: make batch_size")
    assert "Tried to allocate 20.00 GiB" in ended(offline_stack, run_id)["error"]
    assert "greedy.py" in ended(offline_stack, run_id)["traceback"]


@pytest.mark.parametrize("kind", HOST_ALLOCATIONS)
def test_a_worker_out_of_host_memory_ends_with_that_name(offline_stack: Any, tmp_path: Path, kind: str):
    script = tmp_path / "greedy.py"
    script.write_text(f"import steersman\nrun = steersman.attach()\n{HOST_ALLOCATIONS[kind]}\n")
    run_id = create_run(offline_stack)
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", str(script), check=False)
    assert run_row(offline_stack, run_id)["reason"].startswith("Out of host memory: make batch_size")


KILLED_BY_THE_KERNEL = """
import os, signal, sys, time
from pathlib import Path
import steersman
run = steersman.attach()
run.log(1, loss=1.0)
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
for counter in sys.argv[2:]:
    Path(counter).write_text("oom_kill 1\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""
# `manage.py` on a kernel whose counters are files of the test.
MANAGE = """
import sys
from pathlib import Path
from steersman.agent.machine import out_of_memory
out_of_memory.CGROUPS = Path(sys.argv[1])
sys.argv[:2] = ["manage.py"]
import manage
manage.main()
"""


@pytest.mark.parametrize("counted", [True, False])
def test_a_worker_that_the_kernel_killed_ends_with_that_name(offline_stack: Any, tmp_path: Path, counted: bool):
    script = tmp_path / "greedy.py"
    script.write_text(KILLED_BY_THE_KERNEL)
    # Whichever version this host has, the path of the cgroup itself does not exist, as in a container.
    counters = [tmp_path / "cgroup" / "memory.events", tmp_path / "cgroup" / "memory" / "memory.oom_control"]
    counters[1].parent.mkdir(parents=True)
    for counter in counters:
        counter.write_text("oom_kill 0\n")
    run_id = create_run(offline_stack)
    told = [str(counter) for counter in counters] if counted else []
    go = tmp_path / "go"
    process = subprocess.Popen(
        [sys.executable, "-c", MANAGE, str(tmp_path / "cgroup"), "train", "--run-id", str(run_id), "--quiet", "--",
         str(script), str(go), *told],
        cwd=ROOT, env=offline_stack.environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # A point was stored, so the supervisor has read the counter before the kill.
        wait_for(lambda: run_row(offline_stack, run_id)["step"] == 1, "the first point")
    finally:
        go.touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert (run_row(offline_stack, run_id)["reason"] == KILLED) is counted
    assert ended(offline_stack, run_id)["signal"] == "SIGKILL"
