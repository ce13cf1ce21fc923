#!/usr/bin/env python3
"""Stands in for sbatch, squeue, sacct and scancel, with their options and output, on a host without Slurm.

Jobs wait while there is a file `hold` beside these programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[0]).parent


def jobs() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(HERE.glob("job-*.json"))]


def keep(job: dict[str, Any]) -> None:
    arriving = HERE / f"arriving-{os.getpid()}"
    arriving.write_text(json.dumps(job))
    arriving.replace(HERE / f"job-{job['id']}.json")


def begin(job: dict[str, Any]) -> None:
    with open(job["output"], "ab") as output:
        process = subprocess.Popen(
            ["/bin/sh", *job["words"]], cwd=job["chdir"], env=job["environment"], stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    keep(job | {"pid": process.pid, "state": "RUNNING"})


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def sbatch(words: list[str]) -> None:
    options = {}
    while words[0].startswith("--"):
        name, _, value = words.pop(0).partition("=")
        options[name] = value
    job = {"id": len(jobs()) + 1, "words": words, "options": options, "chdir": options["--chdir"], "pid": 0}
    job |= {"output": options["--output"], "environment": dict(os.environ), "state": "PENDING"}
    keep(job)
    if not (HERE / "hold").exists():
        begin(job)
    print(job["id"])


def squeue() -> None:
    for job in jobs():
        if job["state"] == "PENDING" and not (HERE / "hold").exists():
            begin(job)
        if job["state"] == "PENDING":
            print(f"{job['id']}|PENDING|Resources")
        elif job["state"] == "RUNNING" and is_alive(job["pid"]):
            print(f"{job['id']}|RUNNING|None")


def scancel(number: str) -> None:
    for job in jobs():
        if str(job["id"]) == number:
            keep(job | {"state": "CANCELLED"})


def sacct(words: list[str]) -> None:
    (number,) = [word.removeprefix("--jobs=") for word in words if word.startswith("--jobs=")]
    for job in jobs():
        if str(job["id"]) == number:
            print("CANCELLED by 0" if job["state"] == "CANCELLED" else "FAILED")


if __name__ == "__main__":
    match Path(sys.argv[0]).name:
        case "sbatch":
            sbatch(sys.argv[1:])
        case "squeue":
            squeue()
        case "scancel":
            scancel(sys.argv[1])
        case "sacct":
            sacct(sys.argv[1:])
