"""Schemas of saved views."""

from __future__ import annotations

from datetime import datetime

from ninja import Field, Schema

from runs.models import LONGEST_VIEW_NAME, LONGEST_VIEW_QUERY


class SavedViewIn(Schema):
    """A view to save."""

    model_config = {"extra": "forbid"}

    name: str = Field(max_length=LONGEST_VIEW_NAME, description="An existing view with this name is replaced")
    query: str = Field(
        "",
        max_length=LONGEST_VIEW_QUERY,
        description="The query fields of the list's address: q, state, sort, group, column",
    )
    default: bool = Field(False, description="Whether the list shows this view when the project is opened")


class SavedViewOut(Schema):
    """Search, order, columns and groups of the list of runs, for all members of a project."""

    id: int
    name: str
    query: str = Field(description="The part of the address of the list after `?`, without the project")
    default: bool
    changed_by: str
    changed_at: datetime


class SavedViewsPage(Schema):
    count: int
    items: list[SavedViewOut]
