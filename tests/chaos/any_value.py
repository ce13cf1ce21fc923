"""Call every method of the client with arbitrary values, and check what journal and supervisor store in both databases.

usage: python -m tests.chaos.any_value [--each 280]

The table in docs/values.md defines what must be stored. Prints progress to stderr and one JSON object as its last line;
exits with 1 if a run or a storable value is lost, a call raises an exception that the table does not name, or a
supervisor dies.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from typing import Any

from scripts.postgres import Server
from tests.support import postgres
from tests.support.stack import ROOT, Stack, create_run, events, rows, seed_stack

WORKER = str(ROOT / "tests" / "trainings" / "any_value.py")
WRONG = ("runs_lost", "storable_lost", "undocumented_raises", "supervisor_deaths")
FRACTION_WANTED = 0.4
POINTS = """
import json
from runs.models import Series
from tests.support.stored_points import read_points
print(json.dumps([
    [name, int(step), float(value).hex()]
    for name in Series.objects.filter(run_id={run}).values_list("name", flat=True)
    for points in read_points({run}, name).values()
    for step, value in zip(points.steps, points.values)
]))
"""

# For these, only the newest value is stored.
LAST = ("environment", "parameters")


def found_in(stack: Stack, run_id: int) -> set[tuple[Any, ...]]:
    """Return what a run left in the database, in the form of `Call.stored`."""
    found: set[tuple[Any, ...]] = set()
    printed = stack.manage("shell", "-v", "0", "-c", POINTS.format(run=run_id)).stdout
    found |= {("point", *point) for point in json.loads(printed.strip().splitlines()[-1])}
    for row in rows(stack, "SELECT * FROM runs_epochmetric WHERE run_id = ?", run_id):
        found.add(("epoch row", row["epoch"]))
        names = json.loads(row["extra"]) | {name: value for name, value in row.items() if isinstance(value, float)}
        nonfinite = json.loads(row["nonfinite"])
        for name, value in (names | nonfinite).items():
            if value is not None:
                found.add(("epoch", row["epoch"], name, (float(value) + 0.0).hex()))
    for event in events(stack, run_id):
        if event["kind"] == "status":
            for name in ("total_steps", "total_epochs", "steps_per_epoch"):
                found.add(("plan", name, event[name]))
        elif event["kind"] == "log":
            found |= {("line", part) for line in event["lines"] for part in beginnings(line["text"])}
        elif event["kind"] == "alert":
            found |= {("alert", part) for part in beginnings(event["title"])}
        elif event["kind"] == "text":
            found |= {("text", event["name"]), ("text at", event["name"], event["step"])}
        elif event["kind"] == "checkpoint":
            found.add(("checkpoint", event["sha256"]))
    (attempt,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    (run,) = rows(stack, "SELECT knobs, parameters FROM runs_run WHERE id = ?", run_id)
    found |= {("knob", knob["name"]) for knob in json.loads(run["knobs"])}
    found.add(("parameters", json.loads(run["parameters"]).get("token")))
    found.add(("environment", json.loads(attempt["environment"]).get("token")))
    return found


def beginnings(text: str) -> list[str]:
    words = text.split("-", 2)
    return [f"{words[0]}-{words[1]}-"] if len(words) == 3 else []


def lost_of(notes: list[dict[str, Any]], found: set[tuple[Any, ...]]) -> list[list[Any]]:
    """Return the values that had to be stored and were not. For kinds in LAST, only the newest counts."""
    wanted = [stored for note in notes for stored in note["stored"]]
    last = list({stored[0]: stored for stored in wanted if stored[0] in LAST}.values())
    return [stored for stored in [*wanted, *last] if tuple(stored) not in found and (
        stored[0] not in LAST or stored in last)]  # fmt: skip


def check(stack: Stack, each: int) -> dict[str, Any]:
    seed_stack(stack)
    stack.start_redis()
    run_id = create_run(stack, "any value")
    notes_path = stack.folder / "notes"
    supervisor = stack.train(
        run_id, "--quiet", "--", sys.executable, "-m", "tests.trainings.any_value", str(notes_path), str(each)
    )
    supervisor.wait(240)
    log = stack.log()
    notes = [json.loads(line) for line in notes_path.read_text().splitlines()]
    (run,) = rows(stack, "SELECT state, reason FROM runs_run WHERE id = ?", run_id)
    (attempt,) = rows(stack, "SELECT set_aside_records FROM runs_attempt WHERE run_id = ?", run_id)
    lost = lost_of(notes, found_in(stack, run_id))
    odd = [note for note in notes if note["raised"] != (note["expected"] if note["expected"].endswith("Error") else "")]
    for what in (*lost[:5], *odd[:5]):
        print(f"wrong: {what}", file=sys.stderr)
    if run["state"] != "stopped" or supervisor.returncode:
        print(f"{run} {log[-3000:]}", file=sys.stderr)
    return {
        "notes": notes,
        "runs_lost": int(run["state"] != "stopped"),
        "storable_lost": len(lost) + attempt["set_aside_records"],
        "undocumented_raises": len(odd),
        "supervisor_deaths": int(supervisor.returncode != 0 or "Traceback" in log),
    }


def main(each: int) -> int:
    total: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    for database in ("sqlite", "postgresql"):
        with Stack() as stack:
            stored = check(stack, each)
        notes = stored.pop("notes")
        # Both databases get the same calls, so they are counted once.
        methods = Counter(note["method"] for note in notes)
        total["calls"] = len(notes)
        total["storable"] = sum(note["expected"] == "stored" for note in notes)
        total.update(stored)
        print(f"{database}: {stored} {dict(methods)}", file=sys.stderr)
        if database == "sqlite":
            os.environ[postgres.VARIABLE] = SERVER.address
    outcome = dict(total) | {"methods": len(methods), "fewest_calls_of_a_method": min(methods.values())}
    print(json.dumps(outcome))
    enough = total["storable"] >= FRACTION_WANTED * total["calls"]
    return int(any(total[name] for name in WRONG) or not enough)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=280, help="how many calls of each method")
    with Server() as SERVER:
        sys.exit(main(parser.parse_args().each))
