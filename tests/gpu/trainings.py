"""Real runs on the GPU by `train`: precision, resume, memory, compiler, ranks, and the right card.

Prints 1 for each check that passed, 0 otherwise: float16_finished, bfloat16_finished, out_of_memory_named,
compiled_finished, gloo_two_ranks_finished, nccl_finished, uuid_right; and resume_values, resume_differing (values of a
stopped and resumed run that differ from those of an uninterrupted one, with deterministic algorithms; must be 0), and
doctor_problems.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import Any

import msgspec

from runs.protocol.events import Block
from runs.series.float32 import exact_columns
from tests.gpu.arguments import SMI, device_of, show
from tests.support.stack import ROOT, Stack, create_run, events, run_row, seed_stack, wait_for

SCRIPTS = ROOT / "tests" / "gpu" / "scripts"
STOP_AT_STEP = 40
WAIT_S = 240.0
SERIES = ("train/loss", "optimizer/gradient_norm")


def recipe_run(stack: Stack, device: str, *words: str, **parameters: str) -> int:
    """Record a run of the digits recipe and return its number."""
    settings = [part for name, value in parameters.items() for part in ("--set", f"{name}={value}")]
    command = ["create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--device", device, *words, *settings]
    return int(re.findall(r"\d+", stack.manage(*command).stdout)[0])


def trained(stack: Stack, run_id: int, *words: str, **variables: str) -> dict[str, Any]:
    """Train to the end and return the run's row."""
    stack.train(run_id, "--quiet", *words, **variables).wait(WAIT_S)
    return run_row(stack, run_id)


def script(stack: Stack, name: str, *arguments: str, words: tuple[str, ...] = (), **variables: str) -> dict[str, Any]:
    """Train a script of this folder to its end and return the run's row."""
    path = str(SCRIPTS / f"{name}.py")
    return trained(stack, create_run(stack, name), *words, "--", path, *arguments, **variables)


def finished(row: dict[str, Any]) -> int:
    if row["state"] != "finished":
        print(f"{row['name']}: {row['state']}: {row['reason']}", file=sys.stderr)
    return int(row["state"] == "finished")


def values(stack: Stack, run_id: int) -> dict[tuple[str, int], float | None]:
    """Return the values of `SERIES` by name and step as charts show them: of two attempts the later counts."""
    found: dict[tuple[str, int], float | None] = {}
    for event in events(stack, run_id, "metrics"):
        for block in event["blocks"]:
            columns = exact_columns(msgspec.convert(block, Block))
            for name in columns.keys() & set(SERIES):
                found |= {(name, step): value for step, value in zip(block["steps"], columns[name], strict=True)}
    return found


def resumed(stack: Stack, device: str) -> dict[str, int]:
    """Compare a run that was stopped and resumed with an uninterrupted one."""
    whole, cut = (recipe_run(stack, device, "--deterministic", epochs="6") for _ in range(2))
    trained(stack, whole)
    training = stack.train(cut, "--quiet")
    wait_for(lambda: run_row(stack, cut)["step"] >= STOP_AT_STEP, "the run to reach the step at which it is stopped")
    training.send_signal(signal.SIGINT)
    training.wait(WAIT_S)
    stopped = run_row(stack, cut)["state"]
    trained(stack, cut)
    expected, got = values(stack, whole), values(stack, cut)
    differing = sum(got.get(key) != value for key, value in expected.items()) + len(got.keys() - expected.keys())
    if stopped != "stopped":
        print(f"the run to resume ended {stopped} before it was stopped", file=sys.stderr)
        differing += 1
    return {"resume_values": len(expected), "resume_differing": differing}


def right_card(stack: Stack, device: str) -> int:
    """Return 1 if run, script and driver name the same card while CUDA_VISIBLE_DEVICES is its UUID."""
    if device == "cpu":
        return finished(script(stack, "named", "cpu"))
    listed = subprocess.run([SMI, "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    uuid = re.findall(r"GPU-[0-9a-f-]+", listed)[0]
    row = script(stack, "named", device, CUDA_VISIBLE_DEVICES=uuid)
    console = stack.data / "runs" / str(row["id"]) / "attempts" / "1" / "console.log"
    seen = re.findall(r"UUID (?:GPU-)?(\S+)", console.read_text())
    sampled = {name for event in events(stack, row["id"], "system") for name in event["values"]}
    if seen != [uuid.removeprefix("GPU-")]:
        print(f"torch trained on {seen}, asked for was {uuid}", file=sys.stderr)
        return 0
    return int(finished(row) and any(name.startswith("gpu/") for name in sampled))


def doctor_problems(stack: Stack) -> int:
    """Return how many problems `doctor` finds with torch, CUDA and NVML."""
    found = stack.manage("doctor", check=False).stdout
    lines = [line for line in found.splitlines() if re.search(r"\b(torch|CUDA|NVML)\b", line)]
    print("\n".join(lines), file=sys.stderr)
    return sum("problem" in line for line in lines)


def check(stack: Stack, device: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for precision in ("float16", "bfloat16"):
        if device == "cpu" and precision == "float16":
            # torch implements no float16 training on the CPU.
            continue
        run_id = recipe_run(stack, device, epochs="2", precision=precision)
        result[f"{precision}_finished"] = finished(trained(stack, run_id))
    result |= resumed(stack, device)
    reason = script(stack, "greedy", device)["reason"]
    result["out_of_memory_named"] = int(reason.startswith("Out of GPU memory"))
    result["compiled_finished"] = finished(script(stack, "compiled", device))
    # Both ranks share one card.
    result["gloo_two_ranks_finished"] = finished(script(stack, "together", "gloo", device, words=("--nproc", "2")))
    if device != "cpu":
        result["nccl_finished"] = finished(script(stack, "together", "nccl", device, words=("--nproc", "1")))
    result["uuid_right"] = right_card(stack, device)
    result["doctor_problems"] = doctor_problems(stack)
    return result


def main() -> int:
    device = device_of(__doc__)
    with Stack() as stack:
        seed_stack(stack)
        show(check(stack, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
