"""The interface of a journal, and a journal that writes nothing. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from steersman.files.point_code import append_maker, log_maker
from steersman.records.record import Record

# Appends one point of given names: (step, values). Returns False if a value is not a plain float, or the step is not a
# plain int of 64 bits.
Encoder = Callable[[int, Iterable[Any]], bool]
# Handles the calls of `log` that a function of given names cannot.
WithCare = Callable[..., None]
# The arguments for the functions of `steersman.files.point_code` that write nothing.
NOTHING = (None,) * 6


class Journal(Protocol):
    """The journal of a run: a `JournalWriter`, or a `NullJournal` without a supervisor."""

    # Whether records are stored; if not, nothing needs to be copied from a GPU for them.
    keeps: bool

    def encoder(self, names: tuple[str, ...]) -> Encoder: ...
    def logger(self, names: tuple[str, ...], run: Any, with_care: WithCare) -> Callable[..., None]: ...
    def append(self, record: Record) -> None: ...
    def look_at_bound_again(self) -> None: ...
    def end(self) -> None: ...


class NullJournal:
    """Stores nothing. Its functions check values like those of a `JournalWriter`, so that wrong values are noticed."""

    keeps = False

    def encoder(self, names: tuple[str, ...]) -> Encoder:
        encoder: Encoder = append_maker(len(names), writes=False)(*NOTHING)
        return encoder

    def logger(self, names: tuple[str, ...], run: Any, with_care: WithCare) -> Callable[..., None]:
        log: Callable[..., None] = log_maker(names, writes=False)(*NOTHING, run, with_care)
        return log

    def append(self, record: Record) -> None: ...

    def look_at_bound_again(self) -> None: ...

    def end(self) -> None: ...
