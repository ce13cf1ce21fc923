"""The family of a run: its ancestors and its descendants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runs.models import Branch, Run, RunQuerySet

# More than a person reads. A cycle cannot be created here, but a restored database may contain one.
MOST_MEMBERS = 200


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a family. `depth` is 0 for the oldest; `branch` holds its source, None if the run is not a branch.

    `is_asked` marks the run whose family was requested.
    """

    run: Run
    branch: Branch | None
    depth: int
    is_asked: bool


def branch_of(run: Run) -> Branch | None:
    """Return the source and the changes of a branch, None if the run is not a branch."""
    return Branch.objects.filter(run=run).select_related("source").prefetch_related("changes").first()


def family(run: Run, visible: RunQuerySet) -> list[Member]:
    """Return the family of `run` among the `visible` runs, each member before its branches, the oldest first.

    Returns only the run itself if it has no branches and is not a branch of an existing run.
    """
    return list(_below(_oldest(run, visible), visible, run))[:MOST_MEMBERS]


def _oldest(run: Run, visible: RunQuerySet) -> Run:
    oldest = run
    for _count in range(MOST_MEMBERS):
        source = visible.filter(branches__run=oldest).first()
        if source is None:
            break
        oldest = source
    return oldest


def _below(oldest: Run, visible: RunQuerySet, asked: Run) -> Iterator[Member]:
    """Yield a run and its descendants, with one query per generation."""
    branches: dict[int, list[Branch]] = {}
    generation, seen = [oldest.pk], {oldest.pk}
    while generation and len(seen) < MOST_MEMBERS:
        found = Branch.objects.filter(source__in=generation, run__in=visible).order_by("run_id")
        next_generation = []
        for branch in found.select_related("run", "source").prefetch_related("changes")[:MOST_MEMBERS]:
            if branch.source_id is None or branch.run_id in seen:
                continue
            seen.add(branch.run_id)
            branches.setdefault(branch.source_id, []).append(branch)
            next_generation.append(branch.run_id)
        generation = next_generation
    waiting = [Member(oldest, branch_of(oldest), 0, oldest.pk == asked.pk)]
    while waiting:
        member = waiting.pop()
        yield member
        waiting += [
            Member(branch.run, branch, member.depth + 1, branch.run_id == asked.pk)
            for branch in reversed(branches.get(member.run.pk, []))
        ]
