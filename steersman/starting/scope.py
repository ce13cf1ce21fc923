"""A run as a `with` block, its end in a process that continues, and how it is shown."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from steersman.files.locks import HeldLock
from steersman.records.kinds import EndRecord, Level, Outcome
from steersman.starting import card
from steersman.starting.card import is_interactive
from steersman.starting.child import HostChild

NOT_IN_A_PORTAL = "recorded on this machine, not yet in a portal"
RECORDED = "recorded by its supervisor"
NOT_RECORDED = "not recorded"
SESSION_ENDED = "The session ended before run.finish() was called: the run counts as stopped."


class Scope:
    """The part of a run that has a beginning and an end within one process. The recorder has the rest."""

    # Set if this process has started the run by `start()`.
    _host: HostChild | None = None
    _name = "run"
    # How the run has ended, "" while it has not.
    _outcome = ""
    _card: card.LiveCard | None = None
    # Has `stopping` and `paused`.
    _control: Any

    if TYPE_CHECKING:
        supervised: bool
        _journal: Any
        _lock: HeldLock | None

        @property
        def _step(self) -> int: ...
        def finish(self, outcome: Outcome = "finished", *, step: int | None = None) -> None: ...
        def note(self, text: str, level: Level = "info") -> None: ...
        def _end(self, end: EndRecord) -> None: ...
        def _record_exception(
            self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None: ...

    @property
    def page(self) -> str:
        """The address of the run's page, "" if no portal has opened the run yet."""
        place = self._host.place if self._host is not None else None
        return place.page if place is not None else ""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run: as failed after an exception, with its traceback; as stopped after Ctrl-C or a stop."""
        if kind is None or error is None:
            self.finish("stopped" if self._control.stopping else "finished")
        else:
            self._end_by(kind, error, trace)

    def _end_by(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if self._host is not None and isinstance(error, KeyboardInterrupt):
            self.finish("stopped")
        elif isinstance(error, SystemExit) and error.code in (None, 0):
            self.finish("stopped" if self._control.stopping else "finished")
        else:
            self._record_exception(kind, error, trace)

    def _record_exit(self) -> None:
        """Record the end of a process without `finish()`: it has finished, or was stopped if that was requested."""
        if self._host is not None and not self._outcome and is_interactive():
            self.note(SESSION_ENDED, level="warning")
            self._control.stopping = True
        self._end(EndRecord(step=self._step, outcome="stopped" if self._control.stopping else ""))

    def _has_ended_with(self, end: EndRecord) -> None:
        """Hand the ended run over to its host side, and print whether all of it is stored."""
        self._outcome = end.outcome or "finished"
        if self._host is None:
            return
        # The next run of this process begins after this one.
        self._journal.end()
        self._host.end(self._lock)
        print(self._where_it_is(), file=sys.stderr)
        if self._card is not None:
            self._card.show(self)

    def _where_it_is(self) -> str:
        assert self._host is not None
        if self._host.wait():
            return card.line(self._facts())
        data = self._host.data
        return f"steersman: {self._name!r} is recorded in {data}; `steersman sync` sends it to its portal later"

    def _facts(self) -> card.Facts:
        state = self._outcome or ("paused" if self._control.paused else "running")
        place = self._host.place if self._host is not None else None
        if place is not None:
            return card.Facts(self._name, state, self._step, run=place.run, page=place.page)
        note = NOT_IN_A_PORTAL if self._host is not None else RECORDED if self.supervised else NOT_RECORDED
        return card.Facts(self._name, state, self._step, note=note)

    def _show(self) -> None:
        """Show a link: in a notebook as a card that is kept up to date, else as a line on standard error."""
        self._card = card.live_card(self, time.monotonic())
        if self._card is None:
            place = self._host.place if self._host is not None else None
            if place is not None:
                print(f"steersman: run {place.run}: {place.page}", file=sys.stderr)

    def __repr__(self) -> str:
        return card.line(self._facts())

    def _repr_html_(self) -> str:
        return card.html(self._facts())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
