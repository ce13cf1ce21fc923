"""The base of all records of a journal. Each kind is one class in `steersman.records.kinds`. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from steersman.records.typed_json import encode, fields_of, from_fields, parse
from steersman.values import as_text

# The content of a record without its place: a journal takes no record of more than 1 MiB in all.
LARGEST_PAYLOAD_BYTES = (1 << 20) - 128
LONGEST_WORD = 200
# The kinds of records by their number in a journal; each class registers itself.
KINDS: dict[int, type[Record]] = {}
AnyRecord = TypeVar("AnyRecord", bound="Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One whole record. `number` and `time` are given by the writer of the journal.

    `rank` wrote the record, if several ranks are read together; it is not in the journal.
    """

    # The number of the class in a journal. Do not reuse a number: 1 to 21 are taken.
    kind: ClassVar[int]
    # A description with its own fields in braces: people read it if a record cannot be stored.
    title: ClassVar[str]
    # Rank 0 alone writes it: the other ranks do the same at the same step.
    is_of_the_leader: ClassVar[bool] = False
    # It is stored of every rank; of the other kinds those of rank 0 alone.
    from_every_rank: ClassVar[bool] = False
    # It shows that the training proceeds.
    shows_progress: ClassVar[bool] = False
    # It is written as regularly as steps are made, so that the time between two is that of a step.
    is_regular: ClassVar[bool] = False
    # A run that has one has recorded something: plans and notes alone are no training.
    is_recording: ClassVar[bool] = False

    step: int = 0
    number: int = 0
    time: float = 0.0
    rank: int = 0

    def __init_subclass__(cls) -> None:
        # Twice for each class: `slots=True` makes it anew.
        known = KINDS.get(cls.kind)
        if known is not None and (known.__module__, known.__name__) != (cls.__module__, cls.__name__):
            raise TypeError(f"{cls.__name__}: the number {cls.kind} is that of {known.__name__}; take the next one")
        KINDS[cls.kind] = cls

    def payload(self) -> bytes:
        """Return the fields of the kind as JSON. Raises `ValueError` or `RecursionError` where they have none."""
        return encode(fields_of(self, PLACE))

    @classmethod
    def from_payload(cls: type[AnyRecord], payload: bytes, *, number: int, time: float, step: int) -> AnyRecord:
        """Return the record of this kind that a journal holds. Raises `Malformed`, whatever the payload is."""
        return from_fields(cls, parse(payload), number=number, time=time, step=step, rank=0)

    def in_words(self) -> str:
        """Return the title of the record with the values of its fields."""
        return self.title.format(**{name: as_text(value, LONGEST_WORD) for name, value in fields_of(self).items()})


PLACE = frozenset(("step", "number", "time", "rank"))
