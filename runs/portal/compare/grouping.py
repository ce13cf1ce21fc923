"""Runs in groups that share the value of a parameter, as the runs of a sweep with several seeds do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from runs.models import Run
from runs.protocol.series_names import natural_key

PARAMETER = "parameter:"
# More bands in one chart than this cannot be told apart.
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
    """Something that runs can be grouped by: its key in an address, its name, and how many values the runs have."""

    key: str
    title: str
    values: int


def value_of(key: str) -> Callable[[Run], str]:
    """Return the function that gives the text of what `key` names in an address."""
    if key.startswith(PARAMETER):
        name = key.removeprefix(PARAMETER)
        return lambda run: str(run.parameters.get(name, MISSING))
    if key == "recipe":
        return lambda run: run.recipe.spec if run.recipe else _("own script")
    return lambda run: str(getattr(run, key))


def choices(runs: Sequence[Run]) -> list[Choice]:
    """Return what these runs can be grouped by: all in which they differ, in at most `MOST_GROUPS` values.

    Parameters that most of the runs have come first.
    """
    having = Counter(name for run in runs for name in run.parameters)
    names = sorted(having, key=lambda name: (-having[name], natural_key(name)))
    titles = {PARAMETER + name: name for name in names}
    titles |= {"recipe": _("recipe"), "device": _("device"), "seed": _("seed")}
    found = [Choice(key, title, len(set(map(value_of(key), runs)))) for key, title in titles.items()]
    return [choice for choice in found if 2 <= choice.values <= MOST_GROUPS][:MOST_CHOICES]


def groups_of(runs: Sequence[Run], choice: Choice) -> list[Group]:
    """Return the groups of runs with the same value, in the order in which people count."""
    value = value_of(choice.key)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(value(run), []).append(run)
    return [Group(f"{choice.title} = {text}", groups[text]) for text in sorted(groups, key=_counted)]


def _counted(text: str) -> tuple[int, float, tuple[object, ...]]:
    """Return the key that sorts numbers by their size, before all texts."""
    try:
        return 0, float(text), ()
    except ValueError:
        return 1, 0.0, natural_key(text)
