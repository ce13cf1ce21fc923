"""Schemas of the request by which a training host opens a run."""

from __future__ import annotations

from typing import Annotated

from ninja import Field, Schema

from runs.branching.elsewhere import Origin
from runs.launches.opening import Launch
from runs.models import LARGEST_ID, LONGEST_FOLDER, LONGEST_KEY, LONGEST_NAME, LONGEST_START
from runs.recording.lifecycle import Holder
from runs.recording.restart_policy import MOST_RESTARTS

MOST_RANKS = 100_000
# PostgreSQL cannot store the character NUL.
TEXT = r"^[^\x00]*$"
Word = Annotated[str, Field(pattern=TEXT, max_length=4096)]


class OriginBody(Schema):
    """The checkpoint at which a new run begins: one of another run, which the host has."""

    model_config = {"extra": "forbid"}

    run: int = Field(ge=1, le=LARGEST_ID, description="The run that saved it")
    run_name: str = Field("", pattern=TEXT, max_length=LONGEST_NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="That of its manifest")
    name: str = Field(pattern=TEXT, max_length=200)
    step: int = Field(ge=-LARGEST_ID, le=LARGEST_ID)
    epoch: int = Field(ge=-LARGEST_ID, le=LARGEST_ID)
    size_bytes: int = Field(ge=0, le=LARGEST_ID)

    def origin(self) -> Origin:
        return Origin(**self.dict())


class LaunchBody(Schema):
    """The start of a training on a host without access to the database."""

    model_config = {"extra": "forbid"}

    key: str = Field(
        pattern=TEXT,
        min_length=1,
        max_length=LONGEST_KEY,
        description="Identifies the run; a requeued job sends the same key",
    )
    start: str = Field(
        pattern=TEXT,
        min_length=1,
        max_length=LONGEST_START,
        description="Identifies the attempt; all ranks send the same key",
    )
    host: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=255)
    boot_id: str = Field(pattern=TEXT, max_length=64)
    pid: int = Field(ge=1, le=2**31 - 1, description="The process that supervises the training")
    command_line: list[Word] = Field(max_length=1000)
    name: str = Field("", pattern=TEXT, max_length=LONGEST_NAME, description="The name of a new run")
    ranks: int = Field(1, ge=1, le=MOST_RANKS)
    restarts: int = Field(0, ge=0, le=MOST_RESTARTS, description="How many times a new run may be restarted")
    project: str = Field("", pattern=TEXT, max_length=LONGEST_NAME, description="Slug or name; default: the token's")
    started: list[Word] = Field([], max_length=1100, description="The command that a person entered, redacted")
    folder: str = Field(
        "", pattern=TEXT, max_length=LONGEST_FOLDER, description="The folder in which the command was entered, redacted"
    )
    origin: OriginBody | None = Field(None, description="The checkpoint at which a new run begins")

    def launch(self) -> Launch:
        return Launch(
            key=self.key,
            start=self.start,
            holder=Holder(self.host, self.boot_id, self.pid),
            command_line=self.command_line,
            name=self.name,
            ranks=self.ranks,
            restarts=self.restarts,
            project=self.project,
            started=self.started,
            folder=self.folder,
            origin=self.origin.origin() if self.origin else None,
        )


class LaunchOut(Schema):
    run: int
    attempt: int
    page: str = Field(description="The address of the run's page")
    is_new_run: bool
    is_new_attempt: bool = Field(
        description="true for the first request of a start, false for the requests of the other ranks"
    )
