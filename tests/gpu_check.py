"""Run every check that needs a GPU on this machine. Takes less than eight minutes and needs no network.

usage: python -m tests.gpu_check [--rehearse] [--only NAME]

Prints one flat JSON object as its last line, with the card's name as `gpu` and the results of the programs of
tests/gpu; exits with 1 if one of them found a fault. Without a GPU it prints a sentence and `"gpu": null`, and exits
with 0. `--rehearse` runs the programs on the CPU, which proves that they work, but nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from tests.support.stack import ROOT, last_json

PROGRAMS = ("log_calls", "samples", "trainings")
# Less than eight minutes in total.
TIMEOUTS_S = {"log_calls": 90, "samples": 60, "trainings": 320}
# The required value of each figure; other figures are only reported.
RIGHT = {
    "log_syncs": 0,
    "log_differing": 0,
    "nvml_wrong": 0,
    "float16_finished": 1,
    "bfloat16_finished": 1,
    "resume_differing": 0,
    "out_of_memory_named": 1,
    "compiled_finished": 1,
    "gloo_two_ranks_finished": 1,
    "nccl_finished": 1,
    "uuid_right": 1,
    "doctor_problems": 0,
}
CARD = """
import json, torch
found = torch.cuda.is_available() and torch.cuda.get_device_name(0)
print(json.dumps({"gpu": found or None, "torch": torch.__version__}))
"""


def run(command: list[str], timeout_s: float) -> dict[str, Any]:
    """Return the JSON object that a program prints last, or `{"error": …}`.

    The program's messages go to this program's stderr.
    """
    try:
        answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=timeout_s)
        return last_json(answer.stdout) if answer.stdout.strip() else {"error": f"exit code {answer.returncode}"}
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:.0f} s"}
    except ValueError as error:
        return {"error": str(error)}


def wrong(result: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that differs from its required value."""
    told = RIGHT.keys() & result.keys()
    found = [f"{name} is {result[name]}, not {RIGHT[name]}" for name in sorted(told) if result[name] != RIGHT[name]]
    return found + [f"{name}: {value}" for name, value in result.items() if name.endswith("_error")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU")
    parser.add_argument("--only", choices=PROGRAMS, help="one of the programs")
    arguments = parser.parse_args()
    result = run([sys.executable, "-W", "ignore", "-c", CARD], 120)
    if not result.get("gpu") and not arguments.rehearse:
        print("torch sees no GPU on this machine: nothing was checked. `manage.py doctor` says why.", file=sys.stderr)
        print(json.dumps({"gpu": None}))
        return 0
    result |= {"date": time.strftime("%Y-%m-%d"), "rehearsed": int(arguments.rehearse)}
    device = "cpu" if arguments.rehearse else "cuda:0"
    began = time.monotonic()
    for name in [arguments.only] if arguments.only else PROGRAMS:
        print(name, file=sys.stderr)
        command = [sys.executable, "-W", "ignore", "-m", f"tests.gpu.{name}", "--device", device]
        found = run(command, TIMEOUTS_S[name])
        result |= {f"{name}_error" if key == "error" else key: value for key, value in found.items()}
    result["took_s"] = round(time.monotonic() - began)
    faults = wrong(result)
    for line in faults:
        print(f"wrong: {line}", file=sys.stderr)
    print(json.dumps(result))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
