"""Knobs: values that may be changed while a training runs.

Standard library only. The training declares a knob (`Run.knob`) with a `steersman.spec.ValueSpec`. The portal and the
training check values against the spec, and the knob changes at a step boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from steersman import spec as specs
from steersman.files.changed_knobs import EVERY_GROUP
from steersman.kinds import SpecError, Value
from steersman.optimizers import parameter_groups
from steersman.optimizers.parameter_groups import Optimizer
from steersman.records.kinds import Level
from steersman.spec import ValueSpec
from steersman.values import as_text, first_line, is_on_device, plain, shown

LEARNING_RATE_KNOB = "learning_rate_knob(optimizer, scheduler)"

# The fractions by which an effective value must differ from the reported one. A page shows four digits; a schedule that
# advanced by one step does not contradict an outcome.
SHOWN = 0.0005
CONTRADICTED = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of a change of a knob: values, or values by parameter group if several changed."""

    old: Any
    new: Any
    effective: Any


class Knob:
    """A declared knob and its current value: read `value`, or `knob[group]`, wherever the training needs it."""

    def __init__(
        self,
        spec: ValueSpec,
        initial: Value | Mapping[str, Value],
        *,
        apply: Callable[..., object] | None = None,
        effective: Callable[..., Any] | None = None,
    ) -> None:
        """`apply(value)`, or `apply(value, group)` if there are groups, puts a new value into effect.

        `effective()`, or `effective(group)`, returns the effective value if a schedule multiplies it.
        """
        self.spec = spec
        self._apply = apply
        self._effective = effective
        groups = spec.groups or ("",)
        given = initial if isinstance(initial, Mapping) else dict.fromkeys(groups, initial)
        if set(given) != set(groups):
            raise SpecError(f"{spec.name}: give one value for each of its parameter groups")
        self._values: dict[str, Value] = {group: spec.check(given[group]) for group in groups}

    def __copy__(self) -> Knob:
        """Return the knob itself: a copy of its owner, such as an averaged model, must share it, because commands
        change one.
        """
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Knob:
        return self

    def __reduce__(self) -> Any:
        """Pickle the current value without `apply`, whose objects do not exist in another process."""
        return Knob, (self.spec, self._values)

    @property
    def value(self) -> Any:
        """Return the current value, of the first parameter group if there are several."""
        return next(iter(self._values.values()))

    def __getitem__(self, group: str) -> Any:
        return self._values[group]

    @property
    def values(self) -> dict[str, Value]:
        """Return the current values by parameter group ("" if the knob has none)."""
        return dict(self._values)

    @property
    def has_effect(self) -> bool:
        """Return whether the effective value may differ from the value."""
        return self._effective is not None

    def change(
        self, *, value: object = None, factor: float | None = None, group: str = "", expect: Any = None
    ) -> Change:
        """Set the knob to `value`, or to `factor` times its current value; for one parameter group, or for all.

        Raises `SpecError` if the value is not allowed, or if `expect` is given and differs from the current value, and
        any error that `apply` raises; every value is then unchanged.
        """
        groups = self.spec.check_group(group)
        before = {name: self._values[name] for name in groups}
        if expect is not None and any(not self._is(old, expect) for old in before.values()):
            raise SpecError(f"{self.spec.name} was expected to be {expect!r}, but it is {_plain(before)!r}.")
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

    def restore(self, values: Mapping[str, Any]) -> dict[str, SpecError]:
        """Apply the values of a checkpoint; return by group why the knob refuses some of them.

        If it refuses one, the current value stays. Groups that this training does not have are left out.
        """
        refused: dict[str, SpecError] = {}
        for group in self._values:
            if group in values:
                try:
                    value = self.spec.check(values[group])
                except SpecError as error:
                    refused[group] = error
                    continue
                self._put(group, value)
        return refused

    def bring_back(self, changed: Mapping[str, Any]) -> list[tuple[str, Level]]:
        """Apply the values that commands set in earlier attempts; return a sentence for each such value.

        `changed` is by parameter group, "" means all. A value that is refused, or whose `apply` raises, is left out.
        """
        told: list[tuple[str, Level]] = []
        for group, declared in self.values.items():
            wanted = changed.get(group, changed.get(EVERY_GROUP))
            if wanted is None or self._is(declared, wanted):
                continue
            name = f"{self.spec.name} ({group})" if group else self.spec.name
            before = self.spec.text(declared)
            try:
                value = self.spec.check(wanted)
                self._put(group, value)
            except Exception as error:  # any exception, also of the training's own setter: it must not end the training
                self._put_back(group, declared)
                why = first_line(error).rstrip(".")
                sentence = (
                    f"{name} is still {before}. The earlier change to {shown(wanted)} could not be repeated: {why}."
                )
                told.append((sentence, "warning"))
            else:
                sentence = (
                    f"{name} begins with {self.spec.text(value)}, as set by an earlier command, instead of {before}."
                )
                told.append((sentence, "info"))
        return told

    def effective(self, groups: Sequence[str] | None = None) -> Any:
        """Return the effective value, by group if there are several; None if it is the value itself."""
        if self._effective is None:
            return None
        found = {name: float(value) for name, value in self._in_effect(groups).items()}
        return _plain({name: value if math.isfinite(value) else None for name, value in found.items()})

    def effect_shown(self, told: Any, groups: Sequence[str] | None = None) -> Any:
        """Return `effective`; None if the training's own function fails.

        For a value on a GPU, return the last reported value `told`, because reading it would wait for the GPU.
        """
        try:
            return told if any(map(is_on_device, self._in_effect(groups).values())) else self.effective(groups)
        except Exception:  # any error of the function
            return None

    def _in_effect(self, groups: Sequence[str] | None) -> dict[str, Any]:
        if self._effective is None:
            return {}
        names = self.spec.groups or ("",) if groups is None else groups
        return {name: self._effective(name) if self.spec.groups else self._effective() for name in names}

    def to_wire(self, told: Any = None) -> dict[str, Any]:
        """Return JSON-ready fields: the spec, `value` and `effective` (each by group if there are groups).

        `told` is the last reported effective value; see `effect_shown`.
        """
        value = dict(self._values) if self.spec.groups else self.value
        effective = self.effect_shown(told)
        if self.spec.groups and effective is not None and not isinstance(effective, dict):
            effective = {self.spec.groups[0]: effective}
        return self.spec.to_wire() | {"value": value, "effective": effective}

    def _wanted(self, old: Value, value: object, factor: float | None) -> Value:
        if factor is None:
            return self.spec.take(value)
        kind = self.spec.of_kind
        if not kind.is_number:
            raise SpecError(f"{self.spec.name} is not a number: give a value instead of a factor.")
        return self.spec.check(kind.scaled(old, factor))

    def _is(self, present: Value, expected: object) -> bool:
        """Return whether a value is the expected one; numbers may have been converted to text and back."""
        try:
            wanted = self.spec.take(expected)
        except SpecError:
            return False
        if isinstance(present, float) and isinstance(wanted, float):
            return math.isclose(present, wanted, rel_tol=1e-9, abs_tol=0.0)
        return present == wanted

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
        except Exception:  # any exception: the failed setter may fail again, and the change is refused either way
            return


def learning_rate_knob(
    optimizer: Optimizer,
    scheduler: object = None,
    *,
    name: str = "learning_rate",
    minimum: float = 1e-8,
    maximum: float | None = 1.0,
    series: str = "",
) -> Knob:
    """Return a knob of the learning rate that a schedule multiplies; see `Run.learning_rate_knob`."""
    if not parameter_groups.has_learning_rates(optimizer):
        raise TypeError(f"{LEARNING_RATE_KNOB} takes an optimizer of torch, not {shown(optimizer)}")
    if not parameter_groups.is_schedule(scheduler):
        raise TypeError(
            f"{LEARNING_RATE_KNOB} takes a PyTorch learning-rate scheduler, or a list of them, not {shown(scheduler)}"
        )
    if scheduler is not None:
        parameter_groups.keep_base(optimizer)
    groups = parameter_groups.group_names(optimizer)
    # Before any CUDA graph is captured, which reads them at their addresses.
    parameter_groups.own_learning_rates(optimizer)
    bases = parameter_groups.base_learning_rates(optimizer)

    def apply(value: float, group: str = "") -> None:
        present = parameter_groups.base_of_group(optimizer, group)
        if present is not None:
            parameter_groups.change_learning_rate(optimizer, scheduler, present, value, group)

    help = "size of a step; a schedule multiplies it" if scheduler is not None else "size of a step"
    spec = ValueSpec(name, "float", minimum, maximum, (), "log", help=help, groups=groups, series=series)
    return Knob(
        spec.with_room_for(bases.values()),
        bases if groups else bases[""],
        apply=apply,
        effective=partial(parameter_groups.learning_rate_in_effect, optimizer),
    )


class Knobs:
    """The knobs of a training, in the order of their declaration."""

    def __init__(self) -> None:
        self._knobs: dict[str, Knob] = {}
        # The last reported effective values, by the knob's name.
        self._told: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Knob]:
        return iter(self._knobs.values())

    def __len__(self) -> int:
        return len(self._knobs)

    def add(self, knob: Knob) -> None:
        self._knobs[knob.spec.name] = knob

    def named(self, name: str) -> Knob:
        """Return a knob. Raises `SpecError` with the known names."""
        if name not in self._knobs:
            raise unknown_knob(name, self._knobs)
        return self._knobs[name]

    def to_wire(self) -> list[dict[str, Any]]:
        """Return the report of all knobs, and remember the reported effective values."""
        rows = [knob.to_wire(self._told.get(knob.spec.name)) for knob in self]
        self._told = {row["name"]: row["effective"] for row in rows}
        return rows

    def moved_to_wire(self) -> list[dict[str, Any]]:
        """Return the report of the knobs whose effective value has changed since the last report."""
        rows = [knob.to_wire(self._told.get(knob.spec.name)) for knob in self if knob.has_effect]
        moved = [row for row in rows if is_other(row["effective"], self._told.get(row["name"]), SHOWN)]
        self._told |= {row["name"]: row["effective"] for row in moved}
        return moved


def unknown_knob(name: str, known: Iterable[str]) -> SpecError:
    """Return the error that lists the knobs of the training."""
    names = ", ".join(known)
    hint = f"it has {names}" if names else "it declares none"
    return SpecError(f"This training has no knob {shown(name)}: {hint}.")


def kind_of(name: str, default: Value | Mapping[str, Value], choices: Sequence[Value] = ()) -> str:
    """Return the kind that follows from a knob's default. Raises `SpecError` if none does."""
    return specs.kind_of(name, next(iter(default.values()), None) if isinstance(default, Mapping) else default, choices)


def plain_default(default: Any) -> Any:
    """Return a knob's default, or the one of each parameter group, as plain Python values."""
    if not isinstance(default, Mapping):
        return plain(default)
    try:
        return {group: plain(value) for group, value in default.items()}
    except Exception as error:  # from the mapping's own methods
        raise SpecError(f"default: the values of the parameter groups cannot be read: {shown(error)}") from error


def plain_choices(name: object, choices: Any) -> tuple[Any, ...]:
    """Return the choices of a parameter or knob as plain Python values.

    Raises `SpecError` unless they are a sequence.
    """
    try:
        return tuple(plain(choice) for choice in choices)
    except Exception as error:  # from the sequence's own methods
        spec = as_text(name, specs.LARGEST_NAME_CHARACTERS)
        raise SpecError(f"{spec}: choices must be a sequence, not {shown(choices)}", spec) from error


def groups_of(default: Value | Mapping[str, Value]) -> tuple[str, ...]:
    """Return the parameter groups of a knob: a mapping as default has a value for each."""
    return tuple(default) if isinstance(default, Mapping) else ()


def is_other(now: Any, told: Any, by: float) -> bool:
    """Return whether effective values, single or by group, differ from the reported ones by more than the fraction
    `by`.
    """
    if isinstance(now, dict) and isinstance(told, dict):
        return now.keys() != told.keys() or any(is_other(now[group], told[group], by) for group in now)
    if isinstance(now, float) and isinstance(told, float):
        return not math.isclose(now, told, rel_tol=by, abs_tol=0.0)
    return bool(now != told)


def _plain(values: Mapping[str, Any]) -> Any:
    """Return a single value itself, several by their group."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)
