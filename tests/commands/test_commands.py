"""The commands of a run: parsing, message and field of every refusal, and words as typed."""

from __future__ import annotations

import math
import re
from typing import Any
from uuid import UUID

import pytest

from runs.commands.typed import parse_words
from runs.protocol.argument_text import takes
from runs.protocol.commands import (
    COMMANDS,
    Cancel,
    Evaluate,
    Extend,
    InvalidCommand,
    Note,
    Pause,
    Resume,
    SaveCheckpoint,
    SetKnob,
    Stop,
    parse_command,
)
from steersman.spec import ValueSpec
from tests.support.stack import ROOT

KEY = "8ee4c1c1-309f-4365-805f-7a1d5ae2d6b6"


def knob(**fields: Any) -> dict[str, Any]:
    return {"command": "set_knob", "arguments": {"knob": "rate", **fields}}


@pytest.mark.parametrize(
    ("kind", "arguments", "command"),
    [
        ("stop", {}, Stop()),
        ("stop", {"checkpoint": False}, Stop(checkpoint=False)),
        ("pause", {}, Pause()),
        ("resume", {}, Resume()),
        ("save_checkpoint", {}, SaveCheckpoint(name="manual")),
        ("save_checkpoint", {"name": "vor 1.0 – nein".replace("–", "-")}, SaveCheckpoint(name="vor 1.0 - nein")),
        ("evaluate", {}, Evaluate()),
        ("set_knob", {"knob": "rate", "value": 0.1}, SetKnob(knob="rate", value=0.1)),
        ("set_knob", {"knob": "rate", "value": False}, SetKnob(knob="rate", value=False)),
        ("set_knob", {"knob": "rate", "factor": 2, "group": "head"}, SetKnob(knob="rate", factor=2.0, group="head")),
        ("note", {"text": "损失太高"}, Note(text="损失太高")),
        ("extend", {"epochs": 5}, Extend(epochs=5)),
        ("cancel", {"command": KEY}, Cancel(command=UUID(KEY))),
    ],
)
def test_it_gives_each_command_typed(kind: str, arguments: dict[str, Any], command: Any) -> None:
    request = parse_command({"command": kind, "arguments": arguments})
    assert request.command == command and type(request.command) is COMMANDS[kind]
    assert (request.reason, request.expires_in_s, request.expected_state, request.at_step) == ("", None, "", None)


def test_it_takes_the_whole_envelope() -> None:
    request = parse_command(
        knob(value=0.1)
        | {"kind": "command", "id": KEY, "reason": "diverges", "expires_in_s": 60.5, "at": {"step": 2000}}
        | {"expect": {"state": "running", "value": 0.3}}
    )
    assert str(request.id) == KEY and request.reason == "diverges"
    assert request.expires_in_s == 60.5
    assert (request.at_step, request.at_epoch) == (2000, None)
    assert (request.expected_state, request.expected_value) == ("running", 0.3)
    assert parse_command({"command": "stop", "at": {"epoch": 3}}).at_epoch == 3
    assert parse_command({"command": "stop"}).id != parse_command({"command": "stop"}).id


STOP = {"command": "stop"}


@pytest.mark.parametrize(
    ("payload", "field", "sentence"),
    [
        ({}, "command", "no such command; use one of: cancel"),
        ({"command": "dance"}, "command", "no such command"),
        ({"command": 1}, "command", "no such command"),
        ({"command": ["stop"]}, "command", "no such command"),
        (STOP | {"expire_in_s": 5}, "expire_in_s", "has no field expire_in_s; its fields are command"),
        (STOP | {"arguments": []}, "arguments", "an object"),
        (STOP | {"arguments": {"now": 1}}, "now", 'stop has no argument "now". Its arguments: checkpoint.'),
        ({"command": "pause", "arguments": {"now": 1}}, "now", 'The command pause has no arguments: remove "now".'),
        (STOP | {"arguments": {"checkpoint": 1}}, "checkpoint", "true or false"),
        (STOP | {"arguments": {"checkpoint": None}}, "checkpoint", "true or false"),
        (STOP | {"reason": "x" * 501}, "reason", "at most 500"),
        (STOP | {"reason": 5}, "reason", "as text"),
        (STOP | {"reason": "a\0b"}, "reason", "an invalid character"),
        (STOP | {"id": "x"}, "id", "a UUID"),
        (STOP | {"id": [KEY]}, "id", "a UUID"),
        (STOP | {"expires_in_s": 0}, "expires_in_s", "seconds above 0"),
        (STOP | {"expires_in_s": -1}, "expires_in_s", "seconds above 0"),
        (STOP | {"expires_in_s": True}, "expires_in_s", "seconds above 0"),
        (STOP | {"expires_in_s": math.nan}, "expires_in_s", "seconds above 0"),
        (STOP | {"expires_in_s": math.inf}, "expires_in_s", "at most 2592000"),
        (STOP | {"expires_in_s": "60"}, "expires_in_s", "seconds above 0"),
        (STOP | {"at": 5}, "at", "an object"),
        (STOP | {"at": {"step": 0}}, "at", "Give at.step as a whole number from 1"),
        (STOP | {"at": {"step": 2.5}}, "at", "whole number"),
        (STOP | {"at": {"step": True}}, "at", "whole number"),
        (STOP | {"at": {"step": 2**53 + 1}}, "at", "to 9007199254740992"),
        (STOP | {"at": {"epoch": 2**31}}, "at", "Give at.epoch as a whole number from 1 to 2147483647"),
        (STOP | {"at": {"roll_backs": 1}}, "at", 'with "step" or "epoch" or both'),
        (STOP | {"at": {"step": 1, "roll_backs": -1}}, "at", "Give at.roll_backs as a whole number from 0"),
        (STOP | {"at": {"time": 1}}, "at", '{"step": 200}'),
        ({"command": "resume", "at": {"step": 5}}, "at", "resume takes effect immediately"),
        (STOP | {"expect": {"colour": 1}}, "expect", "fields of expect are state and value"),
        (STOP | {"expect": {"state": "asleep"}}, "expect", "state must be one of created"),
        (STOP | {"expect": {"state": ["running"]}}, "expect", "state must be one of"),
        (STOP | {"expect": {"value": 1}}, "expect", "only with set_knob"),
        (knob(value=1) | {"expect": {"value": [1]}}, "expect", "a number, a truth value or text"),
        (knob(value=1) | {"expect": {"value": "x" * 2001}}, "expect", "text of at most 2000"),
        ({"command": "set_knob", "arguments": {"value": 1}}, "knob", "give knob as text"),
        (knob(), "value", "either value or factor"),
        (knob(value=1, factor=2), "value", "either value or factor"),
        (knob(value=[1]), "value", "a finite number or true or false or text of at most 2000"),
        (knob(value="x" * 2001), "value", "text of at most 2000"),
        (knob(value="a\ud800"), "value", "an invalid character"),
        (knob(factor=0), "factor", "above 0"),
        (knob(factor=-1), "factor", "above 0"),
        (knob(factor=math.inf), "factor", "finite"),
        (knob(factor=10**400), "factor", "number"),
        (knob(factor="2"), "factor", "give factor as a finite number"),
        (knob(value=1, group=5), "group", "text of at most 100"),
        ({"command": "save_checkpoint", "arguments": {"name": "../up"}}, "name", "begin with a letter or digit"),
        ({"command": "save_checkpoint", "arguments": {"name": "a/b"}}, "name", "letters, digits"),
        ({"command": "save_checkpoint", "arguments": {"name": "line\n"}}, "name", "letters, digits"),
        ({"command": "save_checkpoint", "arguments": {"name": "x" * 61}}, "name", "at most 60"),
        ({"command": "note", "arguments": {"text": ""}}, "text", "at most 2000"),
        ({"command": "note", "arguments": {"text": " \n "}}, "text", "a note must not be empty"),
        ({"command": "note", "arguments": {"text": "x" * 2001}}, "text", "at most 2000"),
        ({"command": "extend"}, "epochs", "a whole number from 1 to 100000"),
        ({"command": "extend", "arguments": {"epochs": 0}}, "epochs", "a whole number from 1 to 100000"),
        ({"command": "extend", "arguments": {"epochs": True}}, "epochs", "a whole number"),
        ({"command": "cancel", "arguments": {"command": "x"}}, "command", "the id of a command"),
    ],
)
def test_every_refusal_names_its_field_and_says_what_to_give(
    payload: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        parse_command(payload)
    assert refusal.value.field == field
    assert sentence in str(refusal.value) and str(refusal.value).endswith(".")


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_every_command_says_what_it_does_and_takes(kind: str) -> None:
    command = COMMANDS[kind]
    assert command.help.endswith(".")
    for name in command.__struct_fields__:
        assert takes(command, name) != "a value", name


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("stop", {}),
        ("stop checkpoint=false", {"checkpoint": False}),
        ("stop false", {"checkpoint": False}),
        ("save_checkpoint name=12", {"name": "12"}),
        ("save_checkpoint before", {"name": "before"}),
        ("extend 5", {"epochs": 5}),
        (f"cancel {KEY}", {"command": KEY}),
        ("note lr looks=high", {"text": "lr looks=high"}),
        ("note text=high", {"text": "high"}),
        ("set_knob learning_rate=0.001", {"knob": "learning_rate", "value": "0.001"}),
        ("set_knob rate=1e-3 group=head", {"knob": "rate", "value": 0.001, "group": "head"}),
        ("set_knob rate=.5", {"knob": "rate", "value": 0.5}),
        ("set_knob learning_rate*=0.5", {"knob": "learning_rate", "factor": 0.5}),
        ("set_knob augment=yes", {"knob": "augment", "value": True}),
        ("set_knob mode=fast", {"knob": "mode", "value": "fast"}),
        ("set_knob knob=group value=2", {"knob": "group", "value": "2"}),
        ("set_knob knob=bits value=8", {"knob": "bits", "value": "8"}),
        ("stop no", {"checkpoint": False}),
        ("extend 1e1", {"epochs": 10}),
        ("extend many", {"epochs": "many"}),
        # If the knob is unknown or does not accept the value, the typed text is sent unchanged, and the receiver that
        # knows the knob answers.
        ("set_knob bits=8", {"knob": "bits", "value": "8"}),
        ("set_knob bits=9", {"knob": "bits", "value": "9"}),
    ],
)
def test_it_reads_commands_as_typed(typed: str, arguments: dict[str, Any]) -> None:
    kind, *_ = words = typed.split(" ")
    specs = [ValueSpec("bits", "choice", choices=("8", "16")), ValueSpec("rate", "float"), ValueSpec("augment", "bool")]
    known = {spec.name: spec for spec in specs}
    assert parse_words(words, known) == {"command": kind, "arguments": arguments}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "command"),
        (["set_knob", "learning_rate"], "learning_rate"),
        (["set_knob", "a=1", "b=2"], "b"),
        (["pause", "now=1"], "now"),
    ],
)
def test_words_that_are_no_command_name_the_culprit(words: list[str], field: str) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        parse_words(words)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "nan"), (-math.inf, "-inf"), (2**53 + 1, "9007199254740993"), (2**53, 2**53)]
)
def test_a_number_that_json_does_not_hold_travels_as_its_text(value: Any, text: Any) -> None:
    request = parse_command(knob(value=value) | {"expect": {"value": value}})
    assert isinstance(request.command, SetKnob) and request.command.value == request.expected_value == text


def test_words_that_name_no_command_are_refused_by_the_parser() -> None:
    with pytest.raises(InvalidCommand, match="no such command"):
        parse_command(parse_words(["dance", "x=1"]))
    with pytest.raises(InvalidCommand, match="give text"):
        parse_command(parse_words(["note"]))


def test_every_command_reads_in_words_on_the_page() -> None:
    words = (ROOT / "static/js/commands/text.js").read_text().partition("const WORDS = {")[2].partition("\n};")[0]
    # A branch is part of the command log, but is not a command to a training.
    assert set(re.findall(r"^  (\w+):", words, re.MULTILINE)) == {*COMMANDS, "branch"}


def test_every_sheet_is_on_the_page() -> None:
    pages = ("run.html", "partials/sheets.html", "partials/selection_bar.html")
    paths = (ROOT / "templates/runs" / page for page in pages)
    included = {name for path in paths for name in re.findall(r"runs/sheets/(\w+)\.html", path.read_text())}
    frames = {"frame", "of_selected"}
    assert included == {path.stem for path in (ROOT / "templates/runs/sheets").glob("*.html")} - frames
