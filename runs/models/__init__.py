"""The record of runs. Knows nothing of torch or of the training side.

State changes are verbs in `runs.lifecycle`; events are written by `runs.feed` alone.
"""

from runs.models.commands import Command, CommandState, as_wire
from runs.models.keys import AccessToken, Ticket, TokenScope
from runs.models.projects import Invite, Membership, Project, Role
from runs.models.recorded import Axis, Chunk, EpochMetric, JournalOffset, Series, StoredEvent
from runs.models.runs import Attempt, Checkpoint, Host, Recipe, Run, RunQuerySet, RunState

__all__ = [
    "AccessToken",
    "Attempt",
    "Axis",
    "Checkpoint",
    "Chunk",
    "Command",
    "CommandState",
    "EpochMetric",
    "Host",
    "Invite",
    "JournalOffset",
    "Membership",
    "Project",
    "Recipe",
    "Role",
    "Run",
    "RunQuerySet",
    "RunState",
    "Series",
    "StoredEvent",
    "Ticket",
    "TokenScope",
    "as_wire",
]
