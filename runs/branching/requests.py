"""What may be asked of a branch, and why one cannot be opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.db import models
from django.utils.translation import gettext_lazy as _


class CannotBranch(Exception):
    """There can be no such branch; the text says why and what to do. `field` is what it is about."""

    def __init__(self, message: str, field: str = "checkpoint") -> None:
        super().__init__(message)
        self.field = field


class Start(models.TextChoices):
    """What becomes of a branch that was opened. `NOW` queues it before the other runs of its project that wait."""

    NO = "no", _("not yet")
    QUEUE = "queue", _("queue")
    NOW = "now", _("start now")


@dataclass(frozen=True, slots=True)
class Author:
    """Who branches: an account, or a name without one."""

    name: str
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """A branch as it is asked for.

    `checkpoint` is an id, a name, a step, "newest" or "best". `parameters` and `knobs` are what is changed; the value
    of a knob may be one by parameter group. All are given as values or as their texts. The same `id` is the same
    branch.
    """

    checkpoint: str = "newest"
    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    start: Start = Start.NO
    reason: str = ""
    id: UUID = field(default_factory=uuid4)
