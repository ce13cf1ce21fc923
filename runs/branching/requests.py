"""Requests to branch a run, and the error if a branch cannot be opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.db import models
from django.utils.translation import gettext_lazy as _


class CannotBranch(Exception):
    """The branch cannot be opened. The text says why and what to do; `field` names the field with the error."""

    def __init__(self, message: str, field: str = "checkpoint") -> None:
        super().__init__(message)
        self.field = field


class Start(models.TextChoices):
    """How an opened branch is started. `NOW` queues it before the other waiting runs of its project."""

    NO = "no", _("not yet")
    QUEUE = "queue", _("queue")
    NOW = "now", _("start now")

    @classmethod
    def chosen(cls, posted: str | None) -> Start:
        """Return the start that a posted form has chosen; `NO` if it has chosen none, or one that does not exist."""
        return cls(posted) if posted in cls.values else cls.NO


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a branch: an account, or a name without one."""

    name: str
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """A request for a branch.

    `checkpoint` is an id, a name, a step, "newest" or "best". `parameters` and `knobs` hold the changed values; a knob
    may have a value per parameter group. Values are given as such or as text. The same `id` is the same branch.
    """

    checkpoint: str = "newest"
    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    start: Start = Start.NO
    reason: str = ""
    id: UUID = field(default_factory=uuid4)
