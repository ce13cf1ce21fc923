"""A portal, a training host with an agent, and a person who requests runs."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.remote.test_run import PATIENCE_S
from tests.support.hosts.training_host import TrainingHost
from tests.support.stack import Stack, rows, run_row, wait_for

AGENT = """
name = "gpu7"
slots = 1

[commands.train]
title = "Train"
program = ["PYTHON", "train.py", "{tag}", "--epochs={epochs}"]
environment = { RATE = "{rate}" }
push = "last"

[commands.train.parameters.tag]
kind = "str"
default = ""

[commands.train.parameters.epochs]
kind = "int"
minimum = 1
maximum = 300
default = 3

[commands.train.parameters.rate]
kind = "choice"
choices = [0.1, 0.5]
default = 0.1
"""
# The environment of the script has torch, which saves checkpoints.
AGENT = AGENT.replace("PYTHON", sys.executable)
TRAINING = """
import json, os, sys, time
import steersman, torch

run = steersman.attach()
with open(f"seen-{sys.argv[2][9:]}.json", "w") as file:
    json.dump([sys.argv[1:], os.environ["RATE"], os.environ.get("STEERSMAN_TOKEN")], file)
checkpoint = run.newest_checkpoint()
step = checkpoint.step if checkpoint else 0
run.begin_at(step)
print("from", step, flush=True)
while not run.stopping:
    step += 1
    run.log(step, loss=1.0 / step)
    if step % 10 == 0:
        run.save_checkpoint("last", {"step": step}, step=step)
    time.sleep(0.02)
"""
HOSTILE = "a b; rm -rf $HOME `touch pwned` $(touch pwned) '\""


class Lab:
    """A portal, a training host, and a person who requests runs by the API."""

    def __init__(self, stack: Stack, host: TrainingHost) -> None:
        self.stack, self.host = stack, host
        made = stack.manage("create_token", "--project", "lab", "--user", "owner", "--scope", "command")
        self._token = made.stdout.strip()

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.stack.address}/api/{path}", data, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def request(self, **fields: Any) -> int:
        (agent,) = self.api("agents/")["items"]
        return int(self.api(f"agents/{agent['id']}/runs/", {"command": "train"} | fields)["run"])

    def waits(self, run: int, words: str) -> None:
        """Wait until the place of a queued run says `words`."""

        def says() -> bool:
            place = self.api(f"runs/{run}/place/")["place"]
            return place is not None and words in place["text"]

        wait_for(says, lambda: f"{words}\n{self.host.printed()}", PATIENCE_S)

    def refusal(self, **parameters: Any) -> str:
        try:
            self.request(parameters=parameters)
        except urllib.error.HTTPError as error:
            return str(json.load(error)["error"])
        raise AssertionError("the request was taken")

    def is_online(self) -> bool:
        return [each["is_online"] for each in self.api("agents/")["items"]] == [True]

    def reaches(self, run: int, state: str, attempt: int = 1) -> None:
        def is_there() -> bool:
            row = run_row(self.stack, run)
            logged = rows(
                self.stack, "SELECT last_step FROM runs_attempt WHERE run_id = ? AND number = ?", run, attempt
            )
            return row["state"] == state and row["attempt"] == attempt and bool(logged and logged[0]["last_step"])

        what = f"run {run} {state} in attempt {attempt}"
        try:
            wait_for(is_there, what, PATIENCE_S)
        except TimeoutError as error:
            logs = self.host.folder.glob("steersman-runs/agents/*/logs/*.log")
            told = "\n".join(f"--- {path}\n{path.read_text()}" for path in logs)
            row = run_row(self.stack, run)
            raise AssertionError(f"{what}: {row['state']} {row['attempt']} {row['reason']}\n"
                                 f"{self.host.printed()}\n{told}") from error  # fmt: skip


def checkpoint_at(lab: Lab, run: int) -> None:
    found = "SELECT id FROM runs_checkpoint WHERE run_id = ?"
    wait_for(lambda: rows(lab.stack, found, run), f"a checkpoint of run {run}", PATIENCE_S)


def three_starts(log: Path) -> list[int]:
    """Return the steps from which the attempts of a run began, none before the third has."""
    found = [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("from ")]
    return found if len([step for step in found if step]) == 2 else []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
