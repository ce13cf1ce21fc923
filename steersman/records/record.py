"""The base of all records of a journal. Each kind is one class in `steersman.records.kinds`. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from steersman.records.typed_json import encode, fields_of, from_fields, parse
from steersman.values import as_text

# The content of a record without its header: a journal accepts records of at most 1 MiB in all.
LARGEST_PAYLOAD_BYTES = (1 << 20) - 128
LONGEST_WORD = 200
# The kinds of records by their number in a journal; each class registers itself.
KINDS: dict[int, type[Record]] = {}
AnyRecord = TypeVar("AnyRecord", bound="Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One complete record. The writer of the journal sets `number` and `time`.

    `rank` wrote the record, if several ranks are read together; it is not in the journal.
    """

    # The number of the class in a journal. Do not reuse a number: 1 to 21 are taken.
    kind: ClassVar[int]
    # A description with field names in braces, which people read if a record cannot be stored.
    title: ClassVar[str]
    # Whether only rank 0 writes it, because the other ranks do the same at the same step.
    is_of_the_leader: ClassVar[bool] = False
    # Whether it is stored for every rank; other kinds are only stored for rank 0.
    from_every_rank: ClassVar[bool] = False
    # Whether it shows progress of the training.
    shows_progress: ClassVar[bool] = False
    # Whether it is written as regularly as steps, so that the time between two is that of a step.
    is_regular: ClassVar[bool] = False
    # Whether it counts as recorded data: plans and notes alone do not.
    is_recording: ClassVar[bool] = False

    step: int = 0
    number: int = 0
    time: float = 0.0
    rank: int = 0

    def __init_subclass__(cls) -> None:
        # Called twice per class, because `slots=True` creates a second one.
        known = KINDS.get(cls.kind)
        if known is not None and (known.__module__, known.__name__) != (cls.__module__, cls.__name__):
            raise TypeError(f"{cls.__name__}: the number {cls.kind} is that of {known.__name__}; take the next one")
        KINDS[cls.kind] = cls

    def payload(self) -> bytes:
        """Return the fields of the kind as JSON. Raises `ValueError` or `RecursionError` if they cannot be encoded."""
        return encode(fields_of(self, PLACE))

    @classmethod
    def from_payload(cls: type[AnyRecord], payload: bytes, *, number: int, time: float, step: int) -> AnyRecord:
        """Return the record of this kind from a journal. Raises `Malformed` for any invalid payload."""
        return from_fields(cls, parse(payload), number=number, time=time, step=step, rank=0)

    def in_words(self) -> str:
        """Return the title of the record with the values of its fields."""
        return self.title.format(**{name: as_text(value, LONGEST_WORD) for name, value in fields_of(self).items()})


PLACE = frozenset(("step", "number", "time", "rank"))
