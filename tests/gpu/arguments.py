"""Functions that the programs of the GPU check share."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence

# NVIDIA's program, for comparison.
SMI = "nvidia-smi"


def device_of(description: str | None) -> str:
    """Return the device that the command line names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu to rehearse")
    return str(parser.parse_args().device)


def show(result: dict[str, object]) -> None:
    print(json.dumps(result), flush=True)


def ask_smi(fields: Sequence[str]) -> dict[str, str]:
    """Return the values that nvidia-smi reports for the first GPU, by field, without units.

    Raises `OSError` and `CalledProcessError`.
    """
    command = [SMI, "--id=0", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return dict(zip(fields, (part.strip() for part in answer.stdout.splitlines()[0].split(",")), strict=True))


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))
