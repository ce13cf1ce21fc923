"""The parts of a run that cannot be repeated, or only under a condition: sentences to read before a replay starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Attempt, Branch, Run
from runs.replaying.ledger import Ledger, origins


def cannot_repeat(old: Run, ledger: Ledger) -> list[str]:
    """Return a sentence for each reason why a replay of `old` may give other values, in the language in use."""
    return list(_reasons(old, ledger))


def code_of(run: Run) -> tuple[str, str] | None:
    """Return commit and patch that the newest attempt of a run trained, None if they are not known."""
    attempt = run.attempts.order_by("-number").first()
    return _code(attempt) if attempt is not None else None


def _reasons(old: Run, ledger: Ledger) -> Iterator[str]:
    if old.is_live:
        yield _("The run is still training: commands from now on are not repeated.")
    for number, step in ledger.unknown_origins:
        yield _(
            "Attempt %(attempt)d resumed at step %(step)d from a checkpoint of another run, which the new run cannot "
            "repeat."
        ) % {"attempt": number, "step": step}
    if old.recipe_id is None:
        yield _(
            "The run trains its own script: the script must seed its random numbers, must not depend on the time, "
            "and must be started with the same arguments."
        )
    attempts = list(old.attempts.order_by("number"))
    codes = {_code(attempt) for attempt in attempts} - {None}
    if len(codes) > 1:
        yield _("The attempts of the run used different code, but a replay uses only one version.")
    for attempt in attempts:
        if attempt.ranks != old.ranks:
            yield _("Attempt %(attempt)d trained with %(ranks)d ranks, and a replay trains with %(now)d.") % {
                "attempt": attempt.number, "ranks": attempt.ranks, "now": old.ranks,
            }  # fmt: skip
    if not old.deterministic and any(_has_gpu(attempt) for attempt in attempts):
        yield _("The run trained on a GPU without deterministic algorithms: values may differ in their last digits.")
    if old.recipe_id is None and len(attempts) > 1:
        yield _("The run was resumed: its curve repeats only if the script restores everything from its checkpoint.")
    began = origins([old.pk, *Branch.objects.filter(source=old).values_list("run_id", flat=True)])
    own = began.pop(old.pk, "")
    lost = [number for number, sha256 in began.items() if sha256 != own and ledger.saved_as(sha256) is None]
    if lost:
        yield _("These branches began at a checkpoint that is no longer part of the run's curve: %(runs)s.") % {
            "runs": ", ".join(f"#{number}" for number in sorted(lost))
        }


def _code(attempt: Attempt) -> tuple[str, str] | None:
    git: Any = attempt.environment.get("git")
    return (str(git.get("commit", "")), attempt.patch) if isinstance(git, dict) else None


def _has_gpu(attempt: Attempt) -> bool:
    return bool(attempt.environment.get("cuda_devices") or attempt.environment.get("gpus"))
