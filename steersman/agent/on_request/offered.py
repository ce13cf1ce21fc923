"""What this host offers: the commands of `agent.toml`, and the command line that the values of a request give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steersman.kinds import SpecError, Value
from steersman.messages.agents import OfferedCommand, OfferedParameter
from steersman.records.typed_json import Json
from steersman.spec import ValueSpec, typed_values

LOCAL, SBATCH = "local", "sbatch"
# `{epochs}` in a word of a program, or in the value of a variable. Other braces are text.
PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NotOffered(ValueError):
    """A request that the agent does not start. The text is a sentence for the person who requested it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that may be started on request. `program` and `environment` contain the places of parameters.

    `push` says which checkpoint is sent to the portal after the training has ended (see `PUSHES`).
    """

    name: str
    title: str
    program: list[str]
    directory: Path
    help: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    gpus: int = 0
    launcher: str = LOCAL
    sbatch_options: list[str] = field(default_factory=list)
    push: str = "none"
    parameters: dict[str, ValueSpec] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """Return how many slots of the agent it takes: its GPUs, or one."""
        return max(self.gpus, 1)

    def offer(self) -> OfferedCommand:
        parameters = [OfferedParameter.of(spec) for spec in self.parameters.values()]
        return OfferedCommand(name=self.name, title=self.title, help=self.help, slots=self.slots, parameters=parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmPrograms:
    """The programs by which Slurm is asked."""

    sbatch: str = "sbatch"
    squeue: str = "squeue"
    sacct: str = "sacct"
    scancel: str = "scancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The content of `agent.toml`. With `gpus`, each slot is one of them, as `CUDA_VISIBLE_DEVICES` names it."""

    name: str
    slots: int
    gpus: list[str] = field(default_factory=list)
    commands: dict[str, Command] = field(default_factory=dict)
    slurm: SlurmPrograms = field(default_factory=SlurmPrograms)


@dataclass(frozen=True, slots=True)
class Started:
    """What a request starts: a program with its arguments, and the variables that it gets besides those here."""

    program: list[str]
    environment: dict[str, str]


def started_by(command: Command, given: Mapping[str, Json]) -> Started:
    """Return the program and the variables for the values of a request. Raises `NotOffered`.

    A value becomes a part of one word, whatever characters it has: no shell reads it.
    """
    try:
        values = typed_values(command.parameters, given)
    except SpecError as error:
        raise NotOffered(str(error)) from error
    texts = {name: _text(command, name, value) for name, value in values.items()}
    return Started(
        [_filled(word, texts) for word in command.program],
        {name: _filled(word, texts) for name, word in command.environment.items()},
    )


def places_in(word: str) -> list[str]:
    """Return the names of the parameters in a word."""
    return PLACE.findall(word)


def _filled(word: str, texts: Mapping[str, str]) -> str:
    return PLACE.sub(lambda place: texts.get(place[1], place[0]), word)


def _text(command: Command, name: str, value: Value) -> str:
    """Return the text of a value. Raises `NotOffered` for one that a program may take for an option."""
    text = command.parameters[name].text(value)
    begins_a_word = any(word.startswith(f"{{{name}}}") for word in command.program)
    if isinstance(value, str) and text.startswith("-") and begins_a_word:
        raise NotOffered(f"{name} must not begin with -: the program would take it for an option.")
    return text
