"""Answers about branches, limited to the runs that the caller may see."""

from __future__ import annotations

from typing import Any

from runs.access.roles import Caller
from runs.branching.family import family
from runs.models import Branch, Run


def as_out(branch: Branch, caller: Caller) -> dict[str, Any]:
    """Return the fields of `BranchOut`, without the name of a source that the caller may not see."""
    wire = branch.as_wire()
    if branch.source_id is not None and not caller.runs().filter(pk=branch.source_id).exists():
        wire["source_name"] = ""
    return wire


def family_as_out(run: Run, caller: Caller) -> dict[str, Any]:
    """Return the fields of `FamilyOut`: the family of a run, limited to what the caller may see."""
    members = [
        {
            "run": member.run.pk,
            "name": member.run.name,
            "state": member.run.state,
            "step": member.run.step,
            "depth": member.depth,
            "branch": as_out(member.branch, caller) if member.branch else None,
        }
        for member in family(run, caller.runs())
    ]
    return {"count": len(members), "items": members}
