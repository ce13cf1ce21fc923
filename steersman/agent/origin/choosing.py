"""Which checkpoint of a run a launch begins at, and what to do if it is not there."""

from __future__ import annotations

from collections.abc import Collection

from steersman.agent.launchers.problems import NotStarted
from steersman.portal.pulling import Fetchable, FetchableRun

NEWEST, BEST = "newest", "best"
MOST_TOLD = 10
HOW_TO_PUSH = "On the host of the run, send a checkpoint with steersman push FOLDER, or train with --push last."


def parse_source(text: str) -> tuple[int, str]:
    """Return the run and the checkpoint in `RUN[:CHECKPOINT]`, a number and a name; by default the newest one."""
    run, _, wanted = text.partition(":")
    return int(run), wanted or NEWEST


def candidates(source: FetchableRun, wanted: str, here: Collection[str]) -> list[Fetchable]:
    """Return the checkpoints that fit, in the order in which to try them: one, unless the newest or the best is wanted.

    `here` are the hashes of those that this host has; all others come from the portal. Raises `NotStarted`.
    """
    there = [each for each in source.checkpoints if each.is_pushed or each.sha256 in here]
    if wanted in (NEWEST, BEST):
        fitting = [each for each in there if not each.abandoned and (wanted == NEWEST or each.reason == BEST)]
        if fitting:
            return fitting
        kind = "" if wanted == NEWEST else " that was saved as the best"
        raise NotStarted(
            f"from: no checkpoint of run {source.run}{kind} is in the portal. {HOW_TO_PUSH}{_known(source.run, there)}"
        )
    fitting = _named(source.checkpoints, wanted)
    if not fitting:
        others = _known(source.run, there) or f" None of its checkpoints is in the portal. {HOW_TO_PUSH}"
        raise NotStarted(f"from: run {source.run} has no checkpoint {wanted}.{others}")
    found = next((each for each in fitting if each in there), None)
    if found is None:
        raise NotStarted(
            f"from: the checkpoint {_shown(fitting[0])} of run {source.run} is not in the portal. "
            f"{HOW_TO_PUSH}{_known(source.run, there)}"
        )
    return [found]


def _named(checkpoints: list[Fetchable], wanted: str) -> list[Fetchable]:
    """Return the checkpoints with this id, else with this step, else with this name."""
    number = int(wanted) if wanted.isascii() and wanted.removeprefix("-").isdecimal() and len(wanted) < 20 else None
    return (
        [each for each in checkpoints if each.id == number]
        or [each for each in checkpoints if each.step == number]
        or [each for each in checkpoints if each.name == wanted]
    )


def _known(run: int, there: list[Fetchable]) -> str:
    if not there:
        return ""
    return f" You can start from {', '.join(f'{run}:{_shown(each)}' for each in there[:MOST_TOLD])}."


def _shown(checkpoint: Fetchable) -> str:
    return f"{checkpoint.id} ({checkpoint.name}, step {checkpoint.step})"
