"""Calls of the client with arbitrary values, each for one row of the table in docs/values.md, and the expected result.

The table says what a row stores: `TypeError`, left out, or stored. `stored` of a call lists the expected content of the
database, as [kind, …]; see `tests.chaos.any_value`.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.any_values.table import ROWS, Call
from tests.support.any_values.values import (
    LARGEST,
    Stubborn,
    anything,
    bad_names,
    bad_numbers,
    beyond,
    beyond_64,
    floats,
    long_names,
    names,
    nested,
    no_seconds,
    no_steps,
    no_wholes,
    nonfinite,
    numbers,
    odd_plans,
    open_plans,
    plans,
    seconds,
    stored_name,
    wholes,
)

# Far from the values that the strategies draw.
TOKENS = count(3_000_000_000_000)


def digest(token: int) -> str:
    return sha256(str(token).encode()).hexdigest()


def _point(step: tuple[Any, int], given: str, value: tuple[Any, float], row: str) -> Call:
    return Call("log", row, (step[0],), {given: value[0]}, [["point", stored_name(given), step[1], value[1].hex()]])


def _measured(step: tuple[Any, int], prefix: str, value: tuple[Any, float]) -> Call:
    stored = ["point", f"own/{prefix}{step[1]}", step[1], value[1].hex()]
    return Call("log", ROWS["measured"], (step[0],), {f"{prefix}{step[1]}": value[0]}, [stored])


own_step = st.builds(lambda: (token := next(TOKENS), token))
log_calls = st.one_of(
    st.builds(_point, own_step, names, numbers, st.just(ROWS["number"])),
    st.builds(_point, own_step, names, nonfinite, st.just(ROWS["nonfinite"])),
    st.builds(_point, own_step, names, beyond, st.just(ROWS["beyond"])),
    st.builds(_point, wholes, st.builds(lambda: f"series {next(TOKENS)}"), numbers, st.just(ROWS["whole"])),
    st.builds(_point, own_step, names, numbers, st.just(ROWS["name"])),
    st.builds(_point, own_step, long_names, numbers, st.just(ROWS["long"])),
    st.builds(_point, own_step, bad_names, numbers, st.just(ROWS["bad name"])),
    st.builds(lambda value: Call("log", ROWS["no number"], (1,), {"fine": 1.0, "loss": value}), bad_numbers),
    st.builds(lambda step: Call("log", ROWS["no whole"], (step,), {"loss": 1.0}), no_wholes),
    st.builds(lambda step: Call("log", ROWS["beyond 64"], (step,), {"loss": 1.0}), beyond_64),
    st.builds(_measured, own_step, st.sampled_from(["gpu/", "host/"]), numbers),
    st.builds(lambda step, value: Call("log", ROWS["mapping"], (step[0], {"of a dictionary": value[0]}), {},
                                       [["point", "of a dictionary", step[1], value[1].hex()]]), own_step, numbers),
    st.builds(lambda step: Call("log", ROWS["mapping"], (step[0],)), own_step),
    st.sampled_from([
        Call("log", ROWS["wrong call"], ({"loss": 1.0},)), Call("log", ROWS["wrong call"], ({"loss": 1.0}, 1)),
        Call("log", ROWS["wrong call"], (), {"loss": 1.0}), Call("log", ROWS["wrong call"], (1, 0.5)),
        Call("log", ROWS["wrong call"], (1, {"loss": 0.5}, {})), Call("log", ROWS["wrong call"]),
    ]),
)  # fmt: skip


def _epoch(value: tuple[Any, float], name: str, row: str, **named: Any) -> Call:
    epoch = next(TOKENS)
    stored = ["epoch", epoch, stored_name(name), (value[1] + 0.0).hex()]
    return Call("log_epoch", row, (epoch,), {name: value[0], **named}, [stored])


def _epoch_at(epoch: tuple[Any, int], value: float) -> Call:
    # A repeated epoch replaces the row, so the test only checks that the row exists.
    return Call("log_epoch", ROWS["whole"], (epoch[0],), {"train_loss": value}, [["epoch row", epoch[1]]])


def _epoch_of_mapping(value: tuple[Any, float]) -> Call:
    epoch = next(TOKENS)
    stored = ["epoch", epoch, "of a mapping", (value[1] + 0.0).hex()]
    return Call("log_epoch", ROWS["mapping"], (epoch, {"of a mapping": value[0]}), {}, [stored])


epoch_calls = st.one_of(
    st.builds(_epoch, numbers, names, st.just(ROWS["number"])),
    st.builds(_epoch, nonfinite, names, st.just(ROWS["nonfinite"])),
    st.builds(_epoch, beyond, names, st.just(ROWS["beyond"])),
    st.builds(_epoch, numbers, long_names, st.just(ROWS["long"])),
    st.builds(_epoch, numbers, bad_names, st.just(ROWS["bad name"])),
    st.builds(_epoch_at, wholes, floats),
    st.builds(_epoch_of_mapping, numbers),
    st.builds(_epoch, numbers, st.just("train_loss"), st.just(ROWS["seconds"]), duration_s=seconds),
    st.builds(lambda value: Call("log_epoch", ROWS["no seconds"], (next(TOKENS),), {"duration_s": value}), no_seconds),
    st.builds(_epoch, numbers, st.just("loss"), st.just(ROWS["flag"]), best=st.sampled_from([True, np.bool_(True)])),
    st.builds(_epoch, floats.map(lambda value: (value, value)), st.just("best"), st.just(ROWS["best value"])),
    st.builds(_epoch, st.floats(0.1, 0.9).map(lambda value: (value, value)), st.just("step"),
              st.just(ROWS["step value"])),
    st.sampled_from([
        Call("log_epoch", ROWS["wrong call"], ({"loss": 1.0},)), Call("log_epoch", ROWS["wrong call"], (1, 0.5)),
        Call("log_epoch", ROWS["wrong call"], (1, {"loss": 0.5}, {})), Call("log_epoch", ROWS["wrong call"]),
    ]),
    st.builds(lambda value: Call("log_epoch", ROWS["no number"], (3,), {"loss": value}), bad_numbers),
    st.builds(lambda epoch: Call("log_epoch", ROWS["no whole"], (epoch,), {"loss": 1.0}), no_wholes),
    st.builds(lambda epoch: Call("log_epoch", ROWS["beyond 64"], (epoch,), {"loss": 1.0}), beyond_64),
)  # fmt: skip


def _plan(total: tuple[Any, int | None], row: str, field: str) -> Call:
    return Call("plan", row, (), {field: total[0]}, [["plan", field, total[1]]])


fields = st.sampled_from(["total_steps", "total_epochs", "steps_per_epoch"])
plan_calls = st.one_of(
    st.builds(_plan, plans, st.just(ROWS["plan"]), fields),
    st.builds(_plan, open_plans.map(lambda value: (value, None)), st.just(ROWS["open"]), fields),
    st.builds(_plan, odd_plans.map(lambda value: (value, None)), st.just(ROWS["odd plan"]), fields),
    st.builds(lambda value: Call("plan", ROWS["no number"], (), {"total_steps": value}),
              bad_numbers.filter(lambda value: value is not None)),
)  # fmt: skip
quiet_calls = st.one_of(
    st.builds(lambda value: Call("expect_quiet", ROWS["seconds"], (value,)), seconds),
    st.builds(lambda value: Call("expect_quiet", ROWS["no seconds"], (value,)), no_seconds),
    st.builds(lambda value: Call("expect_quiet", ROWS["no number"], (value,)), bad_numbers),
)


def _note(text: Any) -> Call:
    token = f"note-{next(TOKENS)}-"
    given = token + text if isinstance(text, str) else text
    return Call("note", ROWS["text"], (given,), {}, [["line", token]] if isinstance(text, str) else [])


def _alert(title: Any) -> Call:
    token = f"alert-{next(TOKENS)}-"
    given = token + title if isinstance(title, str) else title
    return Call("alert", ROWS["text"], (given,), {}, [["alert", token]] if isinstance(title, str) else [])


def _text(name: str, text: Any, row: str) -> Call:
    name = f"{next(TOKENS)} {name}" if row != ROWS["bad name"] or name else name
    return Call("log_text", row, (name, text), {}, [["text", stored_name(name)]])


note_calls = st.one_of(
    st.builds(_note, anything),
    st.builds(lambda level: Call("note", ROWS["choice"], (f"note-{(token := next(TOKENS))}-", level), {},
                                 [["line", f"note-{token}-"]]), anything),
)  # fmt: skip
alert_calls = st.one_of(
    st.builds(_alert, anything),
    st.builds(lambda level: Call("alert", ROWS["choice"], (f"alert-{(token := next(TOKENS))}-", "", level), {},
                                 [["alert", f"alert-{token}-"]]), anything),
)  # fmt: skip
watch_calls = st.one_of(
    st.builds(lambda name, goal: Call("watch", ROWS["name"], (name, goal)), names, st.sampled_from(["min", "max"])),
    st.builds(lambda goal: Call("watch", ROWS["watch"], ("loss", goal)), anything),
    st.builds(lambda name: Call("watch", ROWS["watch"], (name, "min")), anything),
)


def _model(layers: int) -> Any:
    import torch

    return torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(layers)))


# Recording needs steps of an optimizer: see tests/steersman/client/test_layers.py.
layers_calls = st.one_of(
    st.builds(lambda model, every: Call("watch_layers", ROWS["layers"], (model,), {"every": every, "name": "model"}),
              st.integers(1, 120).map(_model), st.integers(1, LARGEST)),
    st.builds(lambda given: Call("watch_layers", ROWS["no layers"], (given,)), anything),
    st.builds(lambda every: Call("watch_layers", ROWS["no layers"], (_model(1),), {"every": every}),
              st.one_of(no_steps, beyond_64, st.integers(-5, 0))),
    st.builds(lambda name: Call("watch_layers", ROWS["no layers"], (_model(0),), {"name": name}), anything),
)  # fmt: skip
text_calls = st.one_of(
    st.builds(_text, names, anything, st.just(ROWS["text"])),
    st.builds(_text, long_names, anything, st.just(ROWS["long"])),
    st.builds(_text, bad_names, anything, st.just(ROWS["bad name"])),
    st.builds(lambda step: Call("log_text", ROWS["no whole"], ("name", "text"), {"step": step}),
              no_steps),
)  # fmt: skip


def _checkpoint(row: str, changes: dict[str, Any]) -> Call:
    token = next(TOKENS)
    named = {
        "step": token, "epoch": 1, "name": f"checkpoint {token}", "size_bytes": token, "sha256": digest(token),
        **changes,
    }  # fmt: skip
    stored = [["checkpoint", digest(token)]] if row not in (ROWS["no number"], ROWS["no whole"]) else []
    return Call("record_checkpoint", row, (f"checkpoints/{token}",), named, stored)


checkpoint_calls = st.one_of(
    st.builds(_checkpoint, st.just(ROWS["number"]), st.fixed_dictionaries({"metrics": st.dictionaries(
        names, numbers.map(lambda two: two[0]), max_size=3)})),
    st.builds(_checkpoint, st.just(ROWS["nonfinite"]), st.fixed_dictionaries({"metrics": st.dictionaries(
        names, nonfinite.map(lambda two: two[0]), max_size=3)})),
    st.builds(_checkpoint, st.just(ROWS["whole"]), st.fixed_dictionaries({"epoch": wholes.map(lambda two: two[0])})),
    st.builds(_checkpoint, st.just(ROWS["long"]), st.fixed_dictionaries({"name": long_names})),
    st.builds(_checkpoint, st.just(ROWS["bad name"]), st.fixed_dictionaries({"name": bad_names})),
    st.builds(_checkpoint, st.just(ROWS["choice"]), st.fixed_dictionaries({"reason": anything})),
    st.builds(_checkpoint, st.just(ROWS["bad checkpoint"]), st.fixed_dictionaries({"sha256": anything})),
    st.builds(_checkpoint, st.just(ROWS["bad checkpoint"]), st.just({"size_bytes": -5})),
    st.builds(_checkpoint, st.just(ROWS["no whole"]), st.fixed_dictionaries({"step": no_wholes})),
    st.builds(_checkpoint, st.just(ROWS["no number"]), st.fixed_dictionaries({"metrics": st.fixed_dictionaries(
        {"loss": bad_numbers})})),
)  # fmt: skip
saving_calls = st.one_of(
    st.builds(
        lambda name, value: Call("save_checkpoint", ROWS["objects"], (name, {"value": value})),
        anything,
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5),
    ),
    st.builds(
        lambda name, objects: Call("save_checkpoint", ROWS["bad objects"], (name, objects)),
        anything,
        st.sampled_from([None, 5, {}, {"": 1}, {"../x": 1}, {None: 1}, {"x": object()}, {"x": [Stubborn()]}]),
    ),
    st.builds(lambda step: Call("save_checkpoint", ROWS["no whole"], ("last", {"value": 1}), {"step": step}), no_steps),
)
environment_calls = st.builds(
    lambda given: Call("record_environment", ROWS["environment"], ({**given, "token": (token := next(TOKENS))},), {},
                       [["environment", token]]),
    st.dictionaries(st.text(st.characters(), max_size=20), nested, max_size=5),
)  # fmt: skip
outcome_calls = st.builds(lambda given: Call("record_outcome", ROWS["handler"], (given,)), nested)

knob_names = st.integers(1, 20).map(lambda number: f"knob {number}")


def _knob(name: str, default: tuple[Any, float], limits: dict[str, Any]) -> Call:
    return Call("knob", ROWS["knob"], (name, default[0]), limits, [["knob", name]])


knob_calls = st.one_of(
    st.builds(_knob, knob_names, numbers.filter(lambda two: not isinstance(two[0], (Decimal, Fraction, bool, np.bool_))
              and abs(two[1]) < 2**53), st.just({"help": "of the test", "unit": Stubborn()})),
    st.builds(lambda name, value: Call("knob", ROWS["bad knob"], (name, value)), knob_names,
              st.sampled_from(["x" * 2001, "\0", None, math.nan, 1j, [], {}, {1: 0.5}, np.zeros(2), 10**400])),
    st.builds(lambda name: Call("knob", ROWS["bad knob"], (name, 0.5)), st.sampled_from(["", "x" * 61, None, 5, b"x"])),
    st.builds(lambda named: Call("knob", ROWS["bad knob"], ("knob 1", 0.5), named), st.sampled_from([
        {"minimum": math.nan}, {"minimum": "low"}, {"maximum": 10**400}, {"minimum": 1}, {"scale": "log"},
        {"scale": None, "minimum": 0.1}, {"choices": [None, 0.5]}, {"choices": [1, 2]}])),
)  # fmt: skip


def _rate_knob(rate: tuple[Any, float], names: list[str]) -> Call:
    knob = f"rate {next(TOKENS)}"
    groups = [{"lr": rate[0]} | ({"name": name} if name else {}) for name in names]
    return Call("learning_rate_knob", ROWS["rate knob"], (SimpleNamespace(param_groups=groups), Stubborn()),
                {"name": knob, "maximum": None}, [["knob", knob]])  # fmt: skip


rate_knob_calls = st.one_of(
    st.builds(_rate_knob, st.floats(1e-300, 1e15).map(lambda rate: (rate, rate)),
              st.sampled_from([[""], ["body", "head"], ["same", "same"]])),
    st.builds(lambda given: Call("learning_rate_knob", ROWS["no optimizer"], (given,)), anything),
    st.builds(lambda given: Call("learning_rate_knob", ROWS["no optimizer"],
              (SimpleNamespace(param_groups=[{"lr": 0.5}]), given)), st.sampled_from(["cosine", 5, 0.5, {}])),
)  # fmt: skip
begin_calls = st.one_of(
    st.builds(lambda step: Call("begin_at", ROWS["whole"], (step[0], 1)), wholes),
    st.builds(
        lambda step: Call("begin_at", ROWS["no whole"], (step,)), no_wholes.filter(lambda step: step is not None)
    ),
    st.builds(lambda step: Call("begin_at", ROWS["beyond 64"], (step,)), beyond_64),
)


def _step(step: tuple[Any, int]) -> Call:
    name = f"at step {next(TOKENS)}"
    return Call("step", ROWS["whole"], (step[0], name), {}, [["text at", name, step[1]]])


step_calls = st.one_of(
    st.builds(_step, wholes),
    st.builds(lambda step: Call("step", ROWS["no whole"], (step, "text")), no_wholes),
    st.builds(lambda step: Call("step", ROWS["beyond 64"], (step, "text")), beyond_64),
)
parameter_calls = st.one_of(
    st.builds(
        lambda given: Call("configure", ROWS["parameters"], ({**given, "token": (token := next(TOKENS))},), {},
                           [["parameters", token]]),
        st.dictionaries(st.text(st.characters(), max_size=20), nested, max_size=5),
    ),
    st.builds(lambda given: Call("configure", ROWS["no parameters"], (given,)), st.one_of(st.none(), st.integers())),
)  # fmt: skip
on_calls = st.one_of(
    st.builds(lambda kind: Call("on", ROWS["no handler"], (kind, None)), anything),
    st.builds(lambda knob: Call("declare", ROWS["no handler"], (knob,)), anything),
)

CALLS: dict[str, st.SearchStrategy[Call]] = {
    "log": log_calls,
    "log_epoch": epoch_calls,
    "plan": plan_calls,
    "expect_quiet": quiet_calls,
    "note": note_calls,
    "alert": alert_calls,
    "watch": watch_calls,
    "watch_layers": layers_calls,
    "log_text": text_calls,
    "record_checkpoint": checkpoint_calls,
    "save_checkpoint": saving_calls,
    "record_environment": environment_calls,
    "configure": parameter_calls,
    "record_outcome": outcome_calls,
    "knob": knob_calls,
    "learning_rate_knob": rate_knob_calls,
    "begin_at": begin_calls,
    "step": step_calls,
    "on": on_calls,
}
