"""Commands as a person types them: `set_knob learning_rate=0.001`. Knows neither Django nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from runs.protocol.argument_text import kind_of
from runs.protocol.commands import COMMANDS, InvalidCommand, Note, SetKnob
from steersman.knobs import KnobError, KnobSpec


def parse_words(words: Sequence[str], knobs: Mapping[str, KnobSpec] | None = None) -> dict[str, Any]:
    """Return the payload of words as typed: `set_knob learning_rate=0.001`, `save_checkpoint name=before`, `note …`.

    `knob=value` stands for the knob and its value, `knob*=factor` for a factor; a word alone is the only argument of a
    command that has one; what follows `note` is its text. `knobs` are those that the run is known to have. Raises
    `InvalidCommand`.
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
            by_factor = name.endswith("*")
            name, argument = name.removesuffix("*"), "factor" if by_factor else "value"
            arguments["knob"] = name
            spec = None if by_factor else (knobs or {}).get(name)
            arguments[argument] = value_from_text(text, spec)
        elif name in names:
            arguments[name] = text if _is_text(kind, name) else value_from_text(text)
        else:
            raise InvalidCommand(f"{kind} takes {', '.join(names) or 'nothing'}, not {name}.", name)
    return {"command": kind, "arguments": arguments}


def _is_text(kind: str, name: str) -> bool:
    return isinstance(kind_of(COMMANDS[kind], name), msgspec.inspect.StrType)


def value_from_text(text: str, spec: KnobSpec | None = None) -> Any:
    """Return typed text as the value that a knob takes, else as the JSON value or number that it is, else as text."""
    try:
        if spec is not None:
            return spec.parse(text)
    except KnobError:
        pass  # the run answers, so that the refusal stands in its command log
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        pass
    try:
        return float(text)
    except ValueError:
        return text
