"""`docs/protocol.md` against the code, in both directions."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import get_args

import msgspec
import pytest

from runs.models import CommandState, RunState
from runs.protocol.commands import COMMANDS, PAYLOAD_FIELDS, STATES, parse_command
from runs.protocol.events import EVENTS
from runs.protocol.messages import CLOSE_CODES, MESSAGES
from runs.protocol.states import group_of
from steersman.messages.link import FromHost
from steersman.messages.orders import Post
from steersman.messages.reports import Report
from steersman.wire.codec import KINDS
from tests.support.stack import ROOT

TEXT = (ROOT / "docs" / "protocol.md").read_text()


def table(title: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading: first cell, then all cells."""
    section = re.split(rf"\n##+ {title}\n", TEXT, maxsplit=1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    lines = [line for line in section.split("\n\n") if line.lstrip().startswith("|")][0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:] if line.startswith("|")]
    return {row[0].strip("`"): row for row in cells}


def fields_of(row: list[str]) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", row[1]))


def test_it_describes_every_event_and_no_other():
    documented = table("Events")
    assert set(documented) == set(EVENTS)
    for kind, event in EVENTS.items():
        assert fields_of(documented[kind]) >= set(event.__struct_fields__), kind


def test_it_describes_every_message_and_no_other():
    documented = table("Messages from the server")
    assert set(documented) == set(MESSAGES)
    for kind, message in MESSAGES.items():
        assert fields_of(documented[kind]) == set(message.__struct_fields__), kind


def test_it_describes_every_message_between_host_side_and_record_side_and_no_other():
    documented = table("Host side and record side")
    kinds = {"report": Report, "post": Post, **{kind: each for kind, each in KINDS.items() if is_dataclass(each)}}
    assert set(documented) == set(kinds) == set(KINDS)
    for kind, message in kinds.items():
        assert fields_of(documented[kind]) == {field.name for field in fields(message)}, kind
        assert documented[kind][2] == ("host" if message in get_args(FromHost) else "record"), kind


def test_it_describes_every_command_and_no_other():
    documented = table("Commands")
    assert set(documented) == set(COMMANDS)
    for kind, command in COMMANDS.items():
        assert fields_of(documented[kind]) == {field.encode_name for field in msgspec.structs.fields(command)}, kind


def test_it_says_in_which_states_each_command_is_legal():
    for kind, row in table("Commands").items():
        states = {"any": STATES, "any but lost": STATES - {"lost"}}.get(row[2]) or set(row[2].split(", "))
        assert states == COMMANDS[kind].legal_in, kind


def test_it_describes_all_that_a_command_may_carry_and_no_more():
    documented = table("Fields of a command")
    assert set(documented) == set(PAYLOAD_FIELDS)
    asked = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])
    assert set(asked) == set(PAYLOAD_FIELDS) - {"kind"}
    request = parse_command(asked)
    assert (request.expected_state, request.expected_value, request.at_step) == ("running", 0.003, 2000)
    immediate = {kind for kind, command in COMMANDS.items() if not command.can_be_scheduled}
    assert set(re.findall(r"`([a-z_]+)`", documented["at"][2])) == immediate
    assert fields_of(table("Messages from the viewer")["command"]) == set(PAYLOAD_FIELDS) - {"kind"}


def test_it_describes_every_state_of_a_command_and_no_other():
    assert set(table("States of a command")) == set(CommandState.values)


def test_it_describes_every_close_code_and_no_other():
    assert {int(code) for code in table("Close codes")} == set(CLOSE_CODES)


@pytest.mark.parametrize("state", RunState.values)
def test_it_names_every_run_state(state):
    of_viewers = TEXT.partition("\n## Host side and record side")[0]
    (line,) = [line for line in of_viewers.splitlines() if line.startswith(f"| `{group_of(state)}` |")]
    assert f"`{state}`" in line


def test_every_close_code_in_the_server_is_documented():
    code = (ROOT / "runs" / "live" / "consumers.py").read_text()
    used = {int(number) for number in re.findall(r"\b(4[0-9]{3}|101[12])\b", code)}
    assert used <= set(CLOSE_CODES)
