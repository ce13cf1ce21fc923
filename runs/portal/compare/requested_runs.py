"""Reads the runs to compare from a URL, and describes those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.models import LARGEST_ID, Run
from runs.portal.run_table.rows import with_loss

# With more curves, a chart is hard to read.
MOST_RUNS = 50
# For groups of runs. Every proxy accepts an address with this many numbers.
MOST_GROUPED = 400


def numbers_of(texts: Iterable[str]) -> list[int]:
    """Return the numbers of runs among `texts`, once each and in their order."""
    numbers = (int(text[:20]) for text in texts if text.isdecimal())
    return list(dict.fromkeys(number for number in numbers if number <= LARGEST_ID))


def find_runs(numbers: Sequence[int], user: AbstractBaseUser | AnonymousUser) -> list[Run]:
    """Return those of the first `MOST_GROUPED` runs that the user may see, in the order of `numbers`."""
    wanted = numbers[:MOST_GROUPED]
    found = {run.pk: run for run in with_loss(Run.objects.visible_to(user).filter(pk__in=wanted))}
    return [found[number] for number in wanted if number in found]


def notes_on(numbers: Sequence[int], runs: Sequence[Run], grouped: bool) -> list[str]:
    """Return sentences about runs that were requested and are not shown."""
    notes = []
    if grouped and len(numbers) > MOST_GROUPED:
        text = _("At most %(most)d runs can be compared in groups. These are the first of %(asked)d.")
        notes.append(text % {"most": MOST_GROUPED, "asked": len(numbers)})
    elif not grouped and len(numbers) > MOST_RUNS:
        text = _(
            "At most %(most)d runs can be compared one by one. These are the first of %(asked)d: group them by a "
            "parameter to compare up to %(grouped)d."
        )
        notes.append(text % {"most": MOST_RUNS, "asked": len(numbers), "grouped": MOST_GROUPED})
    missing = min(len(numbers), MOST_GROUPED) - len(runs)
    if missing:
        text = ngettext(
            "%(count)d run does not exist, or you are not a member of its project: it is left out.",
            "%(count)d runs do not exist, or you are not a member of their projects: they are left out.",
            missing,
        )
        notes.append(text % {"count": missing})
    return notes


def baseline_of(text: str, keys: Sequence[str]) -> int | None:
    """Return the index of the column that `text` names, None if there is none."""
    return keys.index(text) if text in keys else None
