"""Notes about values that could not be stored unchanged."""

from __future__ import annotations

Remarks = list[str]


class Remark(str):
    """A sentence that is told once of its `subject`, whichever value of it came first."""

    subject: str

    @classmethod
    def about(cls, subject: str, text: str) -> Remark:
        remark = cls(text)
        remark.subject = subject
        return remark


def subject_of(remark: str) -> str:
    """Return what a remark is told of once: itself where it names no subject."""
    return remark.subject if isinstance(remark, Remark) else remark
