"""The interface of a journal, and a journal that writes nothing. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from steersman.files.point_code import append_maker, log_maker
from steersman.records.record import Record

# Appends one point of given names: (step, values). False if a value is not a plain float, or the step no plain int of
# 64 bits.
Encoder = Callable[[int, Iterable[Any]], bool]
# Takes the calls of `log` that a function of given names cannot.
WithCare = Callable[..., None]
# The arguments of the functions of `steersman.files.point_code` if they write nothing.
NOTHING = (None,) * 6


class Journal(Protocol):
    """The journal of a run: a `JournalWriter`, or a `NullJournal` without a supervisor."""

    # Whether anything is kept; if not, nothing need be brought from a GPU for it.
    keeps: bool

    def encoder(self, names: tuple[str, ...]) -> Encoder: ...
    def logger(self, names: tuple[str, ...], run: Any, with_care: WithCare) -> Callable[..., None]: ...
    def append(self, record: Record) -> None: ...
    def look_at_bound_again(self) -> None: ...


class NullJournal:
    """Keeps nothing. Its functions check values as those of a `JournalWriter` do, so that a wrong one is noticed."""

    keeps = False

    def encoder(self, names: tuple[str, ...]) -> Encoder:
        encoder: Encoder = append_maker(len(names), writes=False)(*NOTHING)
        return encoder

    def logger(self, names: tuple[str, ...], run: Any, with_care: WithCare) -> Callable[..., None]:
        log: Callable[..., None] = log_maker(names, writes=False)(*NOTHING, run, with_care)
        return log

    def append(self, record: Record) -> None: ...

    def look_at_bound_again(self) -> None: ...
