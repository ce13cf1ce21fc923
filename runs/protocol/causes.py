"""Why an alert began or a command was sent, if neither a person nor a training gave the reason: kinds with values.

Rows, events and the API contain them in addition to an English text. To show a cause to people, call `words` with a
`gettext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from steersman.marked_text import gettext_noop

# The detector of an alert that the training's own code raises: its title has no translation.
OF_CODE = "code"


class Cause(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """The fields of a kind are the placeholders of its `pattern`."""

    pattern: ClassVar[str] = ""

    def __str__(self) -> str:
        """Return the English text."""
        return self.words(str)

    def words(self, gettext: Callable[[str], str]) -> str:
        """Return the text in the language of `gettext`."""
        return gettext(self.pattern) % self.places(gettext)

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return msgspec.structs.asdict(self)


class Silence(Cause, frozen=True, kw_only=True, tag="silence"):
    """A run is lost because it sent no heartbeat for this many seconds."""

    pattern = gettext_noop("No heartbeat from the training host for %(seconds)d s.")
    seconds: int


class SilentHost(Cause, frozen=True, kw_only=True, tag="silent_host"):
    """A run of a training host without access to the database is lost: there has been no contact since `since`, in UTC.

    `since` is in ISO 8601. The host may only be cut off.
    """

    pattern = gettext_noop(
        "No contact with the training host since %(since)s. If the training is still running, its records are on the "
        "disk of that host."
    )
    since: str

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return {"since": f"{self.since[:16].replace('T', ' ')} UTC"}


class Death(Cause, frozen=True, kw_only=True, tag="death"):
    """A run is lost because its processes have died."""

    pattern = gettext_noop("The training and its supervisor have died on this host. The cause is being determined.")


class LittleSpace(Cause, frozen=True, kw_only=True, tag="little_space"):
    """A disk is nearly full; both in GiB."""

    pattern = gettext_noop("%(free).1f GiB of %(total).1f GiB are free.")
    free: float
    total: float


class BeganInLayer(Cause, frozen=True, kw_only=True, tag="layer"):
    """A loss went wrong after the norm of a layer had left its usual range: `times` the usual value, None if not
    finite.
    """

    usual: ClassVar[dict[str, str]] = {
        "gradient": gettext_noop(
            "The fault began in %(layer)s, whose gradient norm was %(times)s× its usual value at step %(step)s."
        ),
        "update": gettext_noop(
            "The fault began in %(layer)s, whose update norm was %(times)s× its usual value at step %(step)s."
        ),
        "weight": gettext_noop(
            "The fault began in %(layer)s, whose weight norm was %(times)s× its usual value at step %(step)s."
        ),
    }
    not_finite: ClassVar[dict[str, str]] = {
        "gradient": gettext_noop("The fault began in %(layer)s, whose gradient norm was not finite at step %(step)s."),
        "update": gettext_noop("The fault began in %(layer)s, whose update norm was not finite at step %(step)s."),
        "weight": gettext_noop("The fault began in %(layer)s, whose weight norm was not finite at step %(step)s."),
    }
    layer: str
    measure: Literal["gradient", "update", "weight"]
    step: int
    times: float | None = None

    def words(self, gettext: Callable[[str], str]) -> str:
        patterns = self.not_finite if self.times is None else self.usual
        return gettext(patterns[self.measure]) % self.places(gettext)

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        times = "" if self.times is None else f"{float(f'{self.times:.2g}'):,g}"
        return {"layer": self.layer, "times": times, "step": f"{self.step:,}"}


class Recovered(Cause, frozen=True, kw_only=True, tag="recovered"):
    """A run trains on after a rollback: the values of `series` are `now` at `step`, and were `before` until the fault.

    Both are texts such as "0.31 ± 0.02"; `before` is "" if it is not known.
    """

    pattern = gettext_noop("Since the rollback: %(series)s %(now)s at step %(step)s, %(before)s before the fault.")
    without_before: ClassVar[str] = gettext_noop("Since the rollback: %(series)s %(now)s at step %(step)s.")
    series: str
    step: int
    now: str
    before: str = ""

    def words(self, gettext: Callable[[str], str]) -> str:
        return gettext(self.pattern if self.before else self.without_before) % self.places(gettext)

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return msgspec.structs.asdict(self) | {"step": f"{self.step:,}"}


class FaultReturned(Cause, frozen=True, kw_only=True, tag="fault_returned"):
    """A rollback did not help: a fault began again at `step`."""

    pattern = gettext_noop("A fault began again after the rollback, at step %(step)s.")
    step: int

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return {"step": f"{self.step:,}"}


class OfAlert(Cause, frozen=True, kw_only=True, tag="alert"):
    """A rule sent the command when an alert began. `title` is the alert's, in English."""

    detector: str
    title: str
    series: str

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return {"title": _title(self.detector, self.title, gettext), "series": self.series}

    def words(self, gettext: Callable[[str], str]) -> str:
        return " · ".join(str(each) for each in self.places(gettext).values() if each)


class OfLink(Cause, frozen=True, kw_only=True, tag="link"):
    """Somebody opened a link in a message about an alert.

    `destination` is the name of the message's destination, "" for guests, who see no names.
    """

    pattern = gettext_noop("Alert %(alert)d: %(title)s · by a link sent to %(destination)s")
    nameless: ClassVar[str] = gettext_noop("Alert %(alert)d: %(title)s · by a link of a message")
    alert: int
    detector: str
    title: str
    destination: str

    def words(self, gettext: Callable[[str], str]) -> str:
        return gettext(self.pattern if self.destination else self.nameless) % self.places(gettext)

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return msgspec.structs.asdict(self) | {"title": _title(self.detector, self.title, gettext)}


class OfReplay(Cause, frozen=True, kw_only=True, tag="replay"):
    """A replay repeats a command that was applied to another run."""

    pattern = gettext_noop("Replay of run %(run)d.")
    run: int


class Ending(Cause, frozen=True, kw_only=True):
    """A training ended by itself. `of_rank` is the text to use if `rank` was one of several ranks."""

    of_rank: ClassVar[str] = ""
    rank: int | None = None

    def words(self, gettext: Callable[[str], str]) -> str:
        return gettext(self.pattern if self.rank is None else self.of_rank) % self.places(gettext)


class EndedBySignal(Ending, frozen=True, kw_only=True, tag="signal"):
    pattern = gettext_noop("The training process was ended by %(signal)s.")
    of_rank = gettext_noop("Rank %(rank)d was ended by %(signal)s.")
    signal: str


class EndedWithCode(Ending, frozen=True, kw_only=True, tag="exit_code"):
    """The process ended with an exit code and no other known cause. `last_line` is its last output, or ""."""

    pattern = gettext_noop("The training process ended with exit code %(code)d.")
    of_rank = gettext_noop("Rank %(rank)d ended with exit code %(code)d.")
    last: ClassVar[str] = gettext_noop("Its last line was: %(last_line)s")
    code: int
    last_line: str = ""

    def words(self, gettext: Callable[[str], str]) -> str:
        text = super().words(gettext)
        return f"{text} {gettext(self.last) % self.places(gettext)}" if self.last_line else text


class KilledForMemory(Ending, frozen=True, kw_only=True, tag="killed_for_memory"):
    pattern = gettext_noop(
        "Out of host memory: the kernel ended the process; make batch_size or the model smaller, use fewer DataLoader "
        "workers, or allow more memory."
    )
    of_rank = gettext_noop(
        "Rank %(rank)d ran out of host memory: the kernel ended the process; make batch_size or the model smaller, "
        "use fewer DataLoader workers, or allow more memory."
    )


class EndedUnwatched(Ending, frozen=True, kw_only=True, tag="unwatched"):
    pattern = gettext_noop(
        "The training process ended without a supervisor and left no exit record, so its exit status is unknown."
    )
    of_rank = gettext_noop(
        "Rank %(rank)d ended without a supervisor and left no exit record, so its exit status is unknown."
    )


class EndedByReboot(Cause, frozen=True, kw_only=True, tag="rebooted"):
    pattern = gettext_noop(
        "The host was rebooted or lost power, and the training process left no exit record: probably it ended then."
    )


class EndedByScheduler(Cause, frozen=True, kw_only=True, tag="scheduler"):
    """Slurm ended the job of the training."""

    patterns: ClassVar[dict[str, str]] = {
        "preempted": gettext_noop("Slurm: preempted by a job of higher priority."),
        "requeued": gettext_noop("Slurm: the job was requeued."),
        "out_of_time": gettext_noop("Slurm: out of time."),
        "cancelled": gettext_noop("Slurm: the job was cancelled."),
        "node_failed": gettext_noop("Slurm: a node failed."),
    }
    why: Literal["preempted", "requeued", "out_of_time", "cancelled", "node_failed"]

    def words(self, gettext: Callable[[str], str]) -> str:
        return gettext(self.patterns[self.why])


class Interrupted(Cause, frozen=True, kw_only=True, tag="interrupted"):
    pattern = gettext_noop("The training was ended at once by a second interrupt; no checkpoint was saved.")


class EndedByCommand(Cause, frozen=True, kw_only=True, tag="end_process"):
    """Share links show this text, so it contains no name; the command log has the author."""

    pattern = gettext_noop(
        "The training process was ended by a command, because the script did not stop: it did not read run.stopping."
    )


EndCause = (
    EndedBySignal
    | EndedWithCode
    | KilledForMemory
    | EndedUnwatched
    | EndedByReboot
    | EndedByScheduler
    | Interrupted
    | EndedByCommand
)
RunCause = Silence | SilentHost | Death | EndCause
AlertCause = Silence | SilentHost | Death | LittleSpace | BeganInLayer | EndCause
CommandCause = OfAlert | OfLink | OfReplay
# The result of a rollback for an alert.
AfterRollBack = Recovered | FaultReturned


def stored(cause: AlertCause | RunCause | CommandCause | AfterRollBack | None) -> dict[str, Any]:
    """Return a cause as a row keeps it, {} if there is none."""
    return {} if cause is None else dict(msgspec.to_builtins(cause))


def alert_cause(kept: Mapping[str, Any]) -> AlertCause | None:
    """Return the cause in a row; None if there is none, or one of another version."""
    try:
        return msgspec.convert(kept, AlertCause) if kept else None
    except msgspec.ValidationError:
        return None


def after_roll_back(kept: Mapping[str, Any]) -> AfterRollBack | None:
    """Return what a row keeps of a run after a rollback; None if it keeps nothing, or one of another version."""
    try:
        return msgspec.convert(kept, AfterRollBack) if kept else None
    except msgspec.ValidationError:
        return None


def run_cause(kept: Mapping[str, Any], reason: str) -> RunCause | None:
    """Return the cause in a run's row, None unless its `reason` has exactly the same content.

    Additions to a reason, such as that the run starts again, have no kind, and neither do reasons that a training gave.
    """
    try:
        cause = msgspec.convert(kept, RunCause) if kept else None
    except msgspec.ValidationError:
        return None
    return cause if cause is not None and str(cause) == reason else None


def command_cause(kept: Mapping[str, Any]) -> CommandCause | None:
    """Return the cause in a row; None if there is none, or one of another version."""
    try:
        return msgspec.convert(kept, CommandCause) if kept else None
    except msgspec.ValidationError:
        return None


def _title(detector: str, title: str, gettext: Callable[[str], str]) -> str:
    return title if detector == OF_CODE or not title else gettext(title)
