"""The changes of a branch: validates values against the declared specs, and compares them with those of the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from runs.branching.requests import BranchRequest, CannotBranch
from runs.models import BranchChange, Run
from steersman.kinds import SpecError, Value
from steersman.knobs import unknown_knob
from steersman.spec import ValueSpec, specs_from_wire, typed_values

PARAMETER, KNOB = BranchChange.Kind.PARAMETER, BranchChange.Kind.KNOB
# Values of knobs, by name and parameter group.
Knobs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs. `old` is None if it is unknown; `group` is "" for all groups."""

    kind: BranchChange.Kind
    name: str
    new: Any
    old: Any = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """All parameters of a branch, and the values that differ from its source."""

    parameters: dict[str, Any]
    changes: list[Change]


def knob_specs_of(source: Run) -> dict[str, ValueSpec]:
    """Return the specs of the knobs of a run: those that its training declared, otherwise those of its recipe."""
    return source.knob_specs or specs_from_wire(source.recipe.knobs if source.recipe else ())


def changed(source: Run, saved: Knobs, request: BranchRequest) -> Changed:
    """Return the parameters of the branch and its differences from `source`, whose knobs had the values `saved`.

    Raises `CannotBranch` naming the parameter or knob.
    """
    try:
        parameters = _parameters(source, request.parameters)
    except SpecError as error:
        raise CannotBranch(
            error.said.translated(_), f"parameters.{error.name}" if error.name else "parameters"
        ) from error
    try:
        asked = list(_knobs(source, saved, request.knobs))
    except SpecError as error:
        raise CannotBranch(error.said.translated(_), f"knobs.{error.name}" if error.name else "knobs") from error
    of_parameters = [
        Change(PARAMETER, name, value, source.parameters.get(name))
        for name, value in parameters.items()
        if name in source.parameters and source.parameters[name] != value
    ]
    told = {change.name for change in (*of_parameters, *asked)}
    # A knob may have changed since the start. A request that names it as a parameter means its current value.
    turned = [name for name in request.parameters if name in saved and name not in told]
    asked += list(_knobs(source, saved, {name: parameters[name] for name in turned}))
    return Changed(parameters, [*of_parameters, *asked])


def _parameters(source: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    if source.recipe is None:
        if given:
            raise CannotBranch(
                _("This run has no recipe: change the arguments of its script in the command that starts it."),
                "parameters",
            )
        return {}
    declared = source.recipe.parameter_specs
    kept = {name: value for name, value in source.parameters.items() if name in declared}
    return typed_values(declared, kept | dict(given))


def _knobs(source: Run, saved: Knobs, given: Mapping[str, Any]) -> Iterator[Change]:
    specs = knob_specs_of(source)
    for name, value in given.items():
        if name not in specs:
            raise SpecError(unknown_knob(name, specs).said, name)
        by_group = value if isinstance(value, Mapping) else {"": value}
        for group, wanted in by_group.items():
            specs[name].check_group(str(group))
            new: Value = specs[name].take(wanted)
            old = _before(saved.get(name, {}), str(group))
            if old is None or old != new or isinstance(old, bool) != isinstance(new, bool):
                yield Change(KNOB, name, new, old, str(group))


def _before(by_group: Mapping[str, Any], group: str) -> Any:
    """Return the earlier value of a knob: one value if all groups have the same, None if it is unknown."""
    if group:
        return by_group.get(group)
    values = list(by_group.values())
    if not values:
        return None
    return values[0] if all(value == values[0] for value in values) else dict(by_group)
