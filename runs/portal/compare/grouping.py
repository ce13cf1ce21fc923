"""Runs in groups that share the value of a parameter, as the runs of a sweep with several seeds do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from runs.models import Run
from runs.protocol.series_names import natural_key

PARAMETER = "parameter:"
# With more bands, a chart is hard to read.
MOST_GROUPS = 50
MOST_CHOICES = 300
MISSING = "–"


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that have one value in common."""

    label: str
    runs: list[Run]


@dataclass(frozen=True, slots=True)
class Choice:
    """A criterion for groups of runs: its key in an address, its name, and how many values the runs have."""

    key: str
    title: str
    values: int


def value_of(key: str) -> Callable[[Run], str]:
    """Return the function that gives a run's text for `key` of an address."""
    if key.startswith(PARAMETER):
        name = key.removeprefix(PARAMETER)
        return lambda run: str(run.parameters.get(name, MISSING))
    if key == "recipe":
        return lambda run: run.recipe.spec if run.recipe else _("own script")
    return lambda run: str(getattr(run, key))


def choices(runs: Sequence[Run]) -> list[Choice]:
    """Return the criteria by which these runs can be grouped: those with two to `MOST_GROUPS` different values.

    Parameters that most of the runs have come first.
    """
    having = Counter(name for run in runs for name in run.parameters)
    names = sorted(having, key=lambda name: (-having[name], natural_key(name)))
    titles = {PARAMETER + name: name for name in names}
    titles |= {"recipe": _("recipe"), "device": _("device"), "seed": _("seed")}
    found = [Choice(key, title, len(set(map(value_of(key), runs)))) for key, title in titles.items()]
    return [choice for choice in found if 2 <= choice.values <= MOST_GROUPS][:MOST_CHOICES]


def groups_of(runs: Sequence[Run], choice: Choice) -> list[Group]:
    """Return the groups of runs with the same value, in natural order."""
    value = value_of(choice.key)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(value(run), []).append(run)
    return [Group(f"{choice.title} = {text}", groups[text]) for text in sorted(groups, key=_counted)]


def _counted(text: str) -> tuple[int, float, tuple[object, ...]]:
    """Return a sort key that puts numbers in numerical order before all texts."""
    try:
        return 0, float(text), ()
    except ValueError:
        return 1, 0.0, natural_key(text)
