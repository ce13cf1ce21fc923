"""Tags, names and descriptions of runs, and actions on several runs."""

from __future__ import annotations

from typing import Annotated

from ninja import Field, Schema

from runs.curation.several import MOST_RUNS, Action
from runs.curation.tags import MOST_TAGS
from runs.models import LARGEST_ID


class TagsIn(Schema):
    """Tags to add to a run and to remove from it."""

    model_config = {"extra": "forbid"}

    add: list[str] = Field([], max_length=MOST_TAGS)
    remove: list[str] = Field([], max_length=MOST_TAGS, description="Tags that the run does not have are ignored")


class SeveralIn(Schema):
    """An action on several runs."""

    model_config = {"extra": "forbid"}

    runs: list[Annotated[int, Field(ge=1, le=LARGEST_ID)]] = Field(min_length=1, max_length=MOST_RUNS)
    action: Action
    add: list[str] = Field([], max_length=MOST_TAGS, description="With the action tag: the tags")
    remove: list[str] = Field([], max_length=MOST_TAGS)
    reason: str = Field("", max_length=500, description="With the action stop: the reason, which all members can read")


class LeftOutOut(Schema):
    run: int
    name: str = Field(description="Empty if the caller may not see the run")
    why: str


class SeveralOut(Schema):
    done: list[int]
    left_out: list[LeftOutOut] = Field(description="The runs that were left unchanged, each with the reason")


class AboutIn(Schema):
    """What people write about a run; a field that is left out stays as it is."""

    model_config = {"extra": "forbid"}

    name: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=100_000, description="In Markdown, up to 20,000 characters")
    review: str | None = Field(
        None, max_length=100_000, description="The note of the review, in Markdown; an empty one withdraws the review"
    )


class TagsOut(Schema):
    tags: list[str] = Field(description="The tags that the run has now, in lower case, by name")
