"""The importance of each parameter for a metric, computed by scikit-learn in a separate process.

The library takes 100 MB and a second to load, and processes that serve pages do not need it otherwise.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec

import msgspec
from django.conf import settings
from django.utils.translation import gettext as _

from runs.portal.compare.facts import Fact
from runs.portal.compare.forest import FEWEST_RUNS, Importance, Problem

logger = logging.getLogger(__name__)

TIMEOUT_S = 60
# One at a time per process, because a forest takes a core.
_busy = threading.Lock()


class NotComputed(Exception):
    """The table cannot be computed; the message says why, and what to do."""


def importance_of(target: Fact, facts: Sequence[Fact]) -> list[Importance]:
    """Return the parameters with their importance for `target`, the most important first. Raises `NotComputed`."""
    parameters = [fact for fact in facts if not fact.is_metric]
    places = [place for place, value in enumerate(target.values) if isinstance(value, float)]
    if not parameters:
        raise NotComputed(_("All these runs have the same parameter values: compare runs whose values differ."))
    if len(places) < FEWEST_RUNS:
        text = _("Runs with a value of this metric: %(count)d. Select at least %(least)d runs that have one.")
        raise NotComputed(text % {"count": len(places), "least": FEWEST_RUNS})
    if find_spec("sklearn") is None:
        raise NotComputed(
            _(
                "The portal needs scikit-learn to compute this table: ask its administrator to run pip install "
                "scikit-learn."
            )
        )
    problem = Problem(
        names=[fact.title for fact in parameters],
        columns=[[fact.values[place] for place in places] for fact in parameters],
        target=[float(target.values[place] or 0.0) for place in places],
    )
    return _computed(problem)


def _computed(problem: Problem) -> list[Importance]:
    if not _busy.acquire(timeout=TIMEOUT_S):
        raise NotComputed(_("The portal is computing other tables: try again in a minute."))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runs.portal.compare.forest"],
            input=msgspec.json.encode(problem),
            capture_output=True,
            cwd=settings.BASE_DIR,
            timeout=TIMEOUT_S,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        text = _("scikit-learn did not finish this table within %(count)d seconds: compare fewer runs.")
        raise NotComputed(text % {"count": TIMEOUT_S}) from error
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or b""
        logger.error(
            "scikit-learn could not compute a table of importance: %s\n%s", error, said.decode(errors="replace")
        )
        text = _(
            "scikit-learn could not compute the table: the log of the portal has the reason for its administrator."
        )
        raise NotComputed(text) from error
    finally:
        _busy.release()
    return msgspec.json.decode(done.stdout, type=list[Importance])
