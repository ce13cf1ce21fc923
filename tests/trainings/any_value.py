"""A training that calls every method of the client with arbitrary values, and notes the expected result of each call.

Arguments: the file for the notes, the number of calls of each method. Each note is a JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

import steersman
from steersman.commands import Done
from steersman.records.posted import PostedCommand
from tests.support.any_values.calls import CALLS
from tests.support.any_values.table import Call, expected, table

SETTLED = "00000000-0000-0000-0000-000000000000"


def make(run: steersman.Run, call: Call) -> str:
    """Make a call; return "" or the name of the exception."""
    try:
        if call.method == "record_outcome":
            # The result of a handler is part of the outcome of its command.
            done = Done(old=call.arguments[0], new=call.arguments[0])
            run._control._record(PostedCommand(id=SETTLED, command="evaluate"), "applied", done)
        elif call.method == "record_checkpoint":
            assert run.folder is not None
            run.record_checkpoint(run.folder / call.arguments[0], **call.named)
        elif call.method == "step":
            # Records without a step use the one that the loop has set.
            run.step, name = call.arguments
            run.log_text(name, "text")
        else:
            getattr(run, call.method)(*call.arguments, **call.named)
    except Exception as error:
        return type(error).__name__
    return ""


def main(notes: Path, each: int) -> None:
    run = steersman.attach()
    rows = {row: expected(row) for row in table()}
    with notes.open("w") as file:

        def note(call: Call) -> None:
            raised = make(run, call)
            wanted = rows[call.row]
            told: dict[str, Any] = {
                "method": call.method, "row": call.row, "expected": wanted, "raised": raised,
                "stored": call.stored if wanted == "stored" and not raised else [],
            }  # fmt: skip
            file.write(json.dumps(told) + "\n")

        for calls in CALLS.values():
            quick = settings(
                max_examples=each, database=None, deadline=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            seed(20261128)(quick(given(calls)(note)))()
    for value in ("stopped", *[None, 5, "\ud800", "failed"] * (each // 4)):
        run.finish(value)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
