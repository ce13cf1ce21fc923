"""Knobs: values that may be changed while a training runs, with what each of them takes.

Standard library only. A knob is declared where the training is (`Run.knob`), checked there and by the portal
with the same `KnobSpec`, and changed at a step boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steersman.ranges import range_in_words
from steersman.values import as_text, plain, shown

Value = float | int | bool | str
Kind = Literal["float", "int", "bool", "choice"]
Scale = Literal["linear", "log"]
KINDS: tuple[Kind, ...] = ("float", "int", "bool", "choice")
LARGEST_NAME_CHARACTERS = 60
# Whole numbers beyond this are not exact in JSON as browsers read it.
LARGEST_INT = 2**53
MOST_CHOICES = 200


class KnobError(ValueError):
    """A change that a knob does not take, or a declaration that contradicts itself. The text says what to give."""


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """What a knob takes. `series` names the series that shows the value in effect where a schedule multiplies it."""

    name: str
    kind: Kind
    minimum: float | int | None = None
    maximum: float | int | None = None
    choices: tuple[Value, ...] = ()
    scale: Scale = "linear"
    unit: str = ""
    help: str = ""
    # Names of the parameter groups that have a value of their own; empty where the knob has one value.
    groups: tuple[str, ...] = ()
    series: str = ""

    def __post_init__(self) -> None:
        if not _is_text(self.name) or len(self.name) > LARGEST_NAME_CHARACTERS:
            raise KnobError(f"a knob needs a name of at most {LARGEST_NAME_CHARACTERS} characters")
        if self.kind not in KINDS:
            raise KnobError(f"{self.name}: a knob is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.kind == "choice" and not self.choices:
            raise KnobError(f"{self.name}: a choice needs choices")
        if self.scale not in ("linear", "log"):
            raise KnobError(f"{self.name}: the scale is linear or log, not {shown(self.scale)}")
        for limit in (self.minimum, self.maximum):
            if limit is not None and not _is_finite_number(limit):
                raise KnobError(f"{self.name}: give finite limits, not {shown(limit)}")
        if not all(isinstance(choice, (float, int, bool, str)) for choice in self.choices):
            raise KnobError(f"{self.name}: choices are numbers, truth values or text")
        if len(self.choices) > MOST_CHOICES or not all(_is_small(choice) for choice in self.choices):
            raise KnobError(f"{self.name}: give at most {MOST_CHOICES} choices, numbers within 2**53")
        if not all(_is_text(group) for group in self.groups):
            raise KnobError(f"{self.name}: the names of parameter groups are text")
        if self.scale == "log" and not (self.minimum is not None and self.minimum > 0):
            raise KnobError(f"{self.name}: a logarithmic scale needs a minimum above 0")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise KnobError(f"{self.name}: the minimum is above the maximum")

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> KnobSpec:
        """Return the spec among the fields of a knob as it travels; other fields are left out."""
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        for name in ("choices", "groups"):
            known[name] = tuple(known.get(name) or ())
        return cls(**known)

    def to_wire(self) -> dict[str, Any]:
        """Return JSON-ready fields."""
        return asdict(self) | {"choices": list(self.choices), "groups": list(self.groups)}

    def check(self, value: object) -> Value:
        """Return `value` in this knob's type. Raises `KnobError` with a sentence where it takes no such value."""
        if self.kind == "bool":
            if not isinstance(value, bool):
                raise KnobError(f"{self.name} takes true or false, not {shown(value)}.")
            return value
        if self.kind == "choice":
            # True == 1: a choice between numbers takes no truth value.
            for choice in self.choices:
                if not isinstance(value, (bool, int, float, str)):
                    break
                if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                    return choice
            known = ", ".join(as_text(choice, 40) for choice in self.choices[:20])
            raise KnobError(f"{self.name} takes one of {known}, not {shown(value)}.")
        return self._check_range(self._number(value))

    def _number(self, value: object) -> float | int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise KnobError(f"{self.name} takes a number, not {shown(value)}.")
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise KnobError(f"{self.name} takes a finite number, not {shown(value)}.")
        if self.kind == "float":
            return float(value)
        if value != int(value) or abs(value) > LARGEST_INT:
            raise KnobError(f"{self.name} takes a whole number, not {shown(value)}.")
        return int(value)

    def _check_range(self, value: float | int) -> float | int:
        minimum, maximum = self.minimum, self.maximum
        if (minimum is None or value >= minimum) and (maximum is None or value <= maximum):
            return value
        raise KnobError(f"{self.name} takes {range_in_words(minimum, maximum)}, not {value!r}.")

    def parse(self, text: str) -> Value:
        """Return the value that a person typed. Raises `KnobError` where this knob takes no such value."""
        if self.kind == "bool":
            typed: object = {"true": True, "false": False}.get(text.strip().lower(), text)
        elif self.kind == "choice":
            typed = next((choice for choice in self.choices if str(choice) == text), text)
        else:
            try:
                typed = float(text) if self.kind == "float" else int(text)
            except ValueError:
                typed = text
        return self.check(typed)

    def check_group(self, group: str) -> tuple[str, ...]:
        """Return the groups that a change of `group` concerns: that one, or all where it is empty."""
        if not group:
            return self.groups or ("",)
        if group not in self.groups:
            known = f"use one of {', '.join(self.groups)}, or none for all" if self.groups else "leave the group out"
            raise KnobError(f"{self.name} has no parameter group {shown(group)}: {known}.")
        return (group,)


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of a knob did: values, or values by parameter group where several were concerned."""

    old: Any
    new: Any
    effective: Any


class Knob:
    """A declared knob and its present value: read `value`, or `knob[group]`, wherever the training needs it."""

    def __init__(
        self,
        spec: KnobSpec,
        initial: Value | Mapping[str, Value],
        *,
        apply: Callable[..., object] | None = None,
        effective: Callable[..., float] | None = None,
    ) -> None:
        """`apply(value)`, or `apply(value, group)` where there are groups, puts a new value to work.

        `effective()`, or `effective(group)`, returns the value in effect where a schedule multiplies it.
        """
        self.spec = spec
        self._apply = apply
        self._effective = effective
        groups = spec.groups or ("",)
        given = initial if isinstance(initial, Mapping) else dict.fromkeys(groups, initial)
        if set(given) != set(groups):
            raise KnobError(f"{spec.name}: give one value for each of its parameter groups")
        self._values: dict[str, Value] = {group: spec.check(given[group]) for group in groups}

    @property
    def value(self) -> Any:
        """Return the present value: of the first parameter group where there are several."""
        return next(iter(self._values.values()))

    def __getitem__(self, group: str) -> Any:
        return self._values[group]

    @property
    def values(self) -> dict[str, Value]:
        """Return the present values by parameter group ("" where the knob has none)."""
        return dict(self._values)

    def change(
        self, *, value: object = None, factor: float | None = None, group: str = "", expect: Any = None
    ) -> Change:
        """Set the knob to `value`, or to `factor` times what it is; for one parameter group, or for all.

        Raises `KnobError` where it takes no such value or `expect` is given and is not the present value, and
        whatever `apply` raises; then every value is what it was before.
        """
        groups = self.spec.check_group(group)
        before = {name: self._values[name] for name in groups}
        if expect is not None and any(not _same(old, expect) for old in before.values()):
            raise KnobError(f"{self.spec.name} was expected to be {expect!r}, it is {_plain(before)!r}.")
        after = {name: self._wanted(old, value, factor) for name, old in before.items()}
        try:
            for name, wanted in after.items():
                self._put(name, wanted)
            effective = self.effective(groups)
        except BaseException:
            for name, old in before.items():
                self._put_back(name, old)
            raise
        return Change(_plain(before), _plain(after), effective)

    def restore(self, values: Mapping[str, Any]) -> None:
        """Put the values of a checkpoint to work; groups and values that this training does not know are left out."""
        for group in self._values:
            if group in values:
                self._put(group, self.spec.check(values[group]))

    def effective(self, groups: Sequence[str] | None = None) -> Any:
        """Return the value in effect, by group where there are several; None where it is the value itself."""
        if self._effective is None:
            return None
        names = self.spec.groups or ("",) if groups is None else groups
        found = {name: float(self._effective(name) if self.spec.groups else self._effective()) for name in names}
        return _plain({name: value if math.isfinite(value) else None for name, value in found.items()})

    def to_wire(self) -> dict[str, Any]:
        """Return JSON-ready fields: the spec, `value` and `effective` (each by group where there are groups)."""
        value = dict(self._values) if self.spec.groups else self.value
        try:
            effective = self.effective()
        except Exception:  # a function of the training's own: what it cannot tell is not shown
            effective = None
        if self.spec.groups and effective is not None and not isinstance(effective, dict):
            effective = {self.spec.groups[0]: effective}
        return self.spec.to_wire() | {"value": value, "effective": effective}

    def _wanted(self, old: Value, value: object, factor: float | None) -> Value:
        if factor is None:
            return self.spec.check(value)
        if self.spec.kind not in ("float", "int"):
            raise KnobError(f"{self.spec.name} is no number: give a value instead of a factor.")
        product = float(old) * factor
        return self.spec.check(round(product) if self.spec.kind == "int" and math.isfinite(product) else product)

    def _put(self, group: str, value: Value) -> None:
        if self._apply is not None:
            if self.spec.groups:
                self._apply(value, group)
            else:
                self._apply(value)
        self._values[group] = value

    def _put_back(self, group: str, value: Value) -> None:
        self._values[group] = value
        try:
            self._put(group, value)
        except Exception:  # the setter that failed may fail again; the change is refused either way
            return


class Knobs:
    """The knobs of a training, in the order of their declaration."""

    def __init__(self) -> None:
        self._knobs: dict[str, Knob] = {}

    def __iter__(self) -> Iterator[Knob]:
        return iter(self._knobs.values())

    def __len__(self) -> int:
        return len(self._knobs)

    def add(self, knob: Knob) -> None:
        self._knobs[knob.spec.name] = knob

    def named(self, name: str) -> Knob:
        """Return a knob. Raises `KnobError` naming the known ones."""
        if name not in self._knobs:
            raise unknown_knob(name, self._knobs)
        return self._knobs[name]

    def to_wire(self) -> list[dict[str, Any]]:
        return [knob.to_wire() for knob in self]


def unknown_knob(name: str, known: Iterable[str]) -> KnobError:
    """Return the error that names the knobs which a training has instead."""
    names = ", ".join(known)
    hint = f"it has {names}" if names else "it declares none"
    return KnobError(f"This training has no knob {shown(name)}: {hint}.")


def kind_of(name: str, default: Value | Mapping[str, Value], choices: Sequence[Value] = ()) -> Kind:
    """Return the kind that follows from a knob's default. Raises `KnobError` where none does."""
    sample = next(iter(default.values()), None) if isinstance(default, Mapping) else default
    if choices:
        return "choice"
    if isinstance(sample, bool):
        return "bool"
    if isinstance(sample, int):
        return "int"
    if isinstance(sample, float):
        return "float"
    knob = as_text(name, LARGEST_NAME_CHARACTERS)
    raise KnobError(f"{knob}: a knob starts as a number or a truth value, or has choices; this is {shown(sample)}")


def plain_default(default: Any) -> Any:
    """Return a knob's default, or the one of each parameter group, as plain Python values."""
    if not isinstance(default, Mapping):
        return plain(default)
    try:
        return {group: plain(value) for group, value in default.items()}
    except Exception as error:  # of the mapping's own methods
        raise KnobError(f"the values of a knob's parameter groups cannot be read: {shown(error)}") from error


def plain_choices(choices: Any) -> tuple[Any, ...]:
    """Return a knob's choices as plain Python values. Raises `KnobError` where they are no sequence."""
    try:
        return tuple(plain(choice) for choice in choices)
    except Exception as error:  # of the sequence's own methods
        raise KnobError(f"a knob's choices are a sequence, not {shown(choices)}") from error


def _is_text(given: object) -> bool:
    """Tell whether a script gave a text that is not empty, whatever the annotation says."""
    return isinstance(given, str) and bool(given)


def _is_small(choice: Value) -> bool:
    return not isinstance(choice, int) or abs(choice) <= LARGEST_INT


def _is_finite_number(limit: object) -> bool:
    try:
        return isinstance(limit, (int, float)) and math.isfinite(limit)
    except OverflowError:
        return False


def groups_of(default: Value | Mapping[str, Value]) -> tuple[str, ...]:
    """Return the parameter groups of a knob: a mapping as default gives a value for each."""
    return tuple(default) if isinstance(default, Mapping) else ()


def _plain(values: Mapping[str, Any]) -> Any:
    """Return a single value as it is, several by their group."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def _same(present: Value, expected: object) -> bool:
    """Tell whether a value is the expected one; floats may have gone through text."""
    if isinstance(present, bool) or isinstance(expected, bool) or not isinstance(expected, (int, float)):
        return present == expected and isinstance(present, bool) == isinstance(expected, bool)
    return isinstance(present, (int, float)) and math.isclose(present, expected, rel_tol=1e-9, abs_tol=0.0)
