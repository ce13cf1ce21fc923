"""The answer to every request that is refused."""

from __future__ import annotations

from ninja import Field, Schema


class ErrorOut(Schema):
    error: str = Field(description="What is wrong and what to do, in a sentence")
    field: str = Field(description="The field with the error, empty if there is none")
