"""Notes about values that could not be stored unchanged."""

from __future__ import annotations

Remarks = list[str]


class Remark(str):
    """A sentence that is logged once per `subject`, for the first value that causes it."""

    subject: str

    @classmethod
    def about(cls, subject: str, text: str) -> Remark:
        remark = cls(text)
        remark.subject = subject
        return remark


def subject_of(remark: str) -> str:
    """Return the key by which a remark is logged once: its subject, or the remark itself."""
    return remark.subject if isinstance(remark, Remark) else remark
