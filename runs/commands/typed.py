"""Commands as a person types them: `set_knob learning_rate=0.001`. Imports neither Django nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runs.protocol.argument_text import argument_spec
from runs.protocol.commands import COMMANDS, InvalidCommand, Note, SetKnob, unknown_argument
from steersman.kinds import SpecError
from steersman.spec import ValueSpec


def parse_words(words: Sequence[str], knobs: Mapping[str, ValueSpec] | None = None) -> dict[str, Any]:
    """Return the payload of typed words: `set_knob learning_rate=0.001`, `save_checkpoint name=before`, `note …`.

    `knob=value` sets a knob, `knob*=factor` multiplies it; a single word is the argument of a command with only one
    argument; the words after `note` are its text. `knobs` are the known knobs of the run. Raises `InvalidCommand`.
    """
    if not words:
        raise InvalidCommand(f"Name a command: {', '.join(sorted(COMMANDS))}.", "command")
    kind, *rest = words
    if kind not in COMMANDS:
        return {"command": kind}
    names = COMMANDS[kind].__struct_fields__
    if kind == Note.kind and rest and not rest[0].startswith("text="):
        return {"command": kind, "arguments": {"text": " ".join(rest)}}
    if len(names) == len(rest) == 1 and "=" not in rest[0]:
        rest = [f"{names[0]}={rest[0]}"]
    arguments: dict[str, Any] = {}
    for word in rest:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidCommand(f"{word}: write name=value.", word)
        if kind == SetKnob.kind and name not in names and "knob" not in arguments:
            arguments["knob"] = name.removesuffix("*")
            name = "factor" if name.endswith("*") else "value"
        elif name not in names:
            raise InvalidCommand(unknown_argument(kind, name, names), name)
        of_knob = kind == SetKnob.kind and name == "value"
        spec = (knobs or {}).get(arguments.get("knob", "")) if of_knob else argument_spec(COMMANDS[kind], name)
        arguments[name] = value_from_text(text, spec)
    return {"command": kind, "arguments": arguments}


def value_from_text(text: str, spec: ValueSpec | None) -> Any:
    """Return typed text as a value of the spec, or the text itself if there is no spec or it does not fit.

    It is then parsed again when the command is recorded, which records a refusal, or by the training.
    """
    try:
        return text if spec is None else spec.parse(text)
    except SpecError:
        return text
