"""Why an alert began or a command was asked, where no person and no training said so: a kind and its values.

Rows, events and the API keep them beside an English text. Whoever shows one to people calls `words` with a `gettext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from steersman.marked_text import gettext_noop

# The detector of an alert that the training's own code raises: its title is in nobody's catalogue.
OF_CODE = "code"


class Cause(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """The fields of a kind fill the places of its `pattern`."""

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
    """A run is lost: for so many seconds it sent no heartbeat."""

    pattern = gettext_noop("No heartbeat from the training host for %(seconds)d s.")
    seconds: int


class Death(Cause, frozen=True, kw_only=True, tag="death"):
    """A run is lost: its processes have died."""

    pattern = gettext_noop("The training and its supervisor have died on this host; how they ended is being looked up.")


class LittleSpace(Cause, frozen=True, kw_only=True, tag="little_space"):
    """A disk is nearly full; both in GiB."""

    pattern = gettext_noop("%(free).1f GiB of %(total).1f GiB are free.")
    free: float
    total: float


class OfAlert(Cause, frozen=True, kw_only=True, tag="alert"):
    """A rule asked as an alert began. `title` is the alert's, in English."""

    detector: str
    title: str
    series: str

    def places(self, gettext: Callable[[str], str]) -> Mapping[str, object]:
        return {"title": _title(self.detector, self.title, gettext), "series": self.series}

    def words(self, gettext: Callable[[str], str]) -> str:
        return " · ".join(str(each) for each in self.places(gettext).values() if each)


class OfLink(Cause, frozen=True, kw_only=True, tag="link"):
    """Somebody opened a link of a message about an alert.

    `destination` is the name of whom it was sent to, "" for guests, who are told no names.
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
    """A replay repeats what was applied to another run."""

    pattern = gettext_noop("Replay of run %(run)d.")
    run: int


AlertCause = Silence | Death | LittleSpace
CommandCause = OfAlert | OfLink | OfReplay


def stored(cause: AlertCause | CommandCause | None) -> dict[str, Any]:
    """Return a cause as a row keeps it, {} where there is none."""
    return {} if cause is None else dict(msgspec.to_builtins(cause))


def alert_cause(kept: Mapping[str, Any]) -> AlertCause | None:
    """Return the cause that a row keeps; None where it keeps none, or one of another version."""
    try:
        return msgspec.convert(kept, AlertCause) if kept else None
    except msgspec.ValidationError:
        return None


def command_cause(kept: Mapping[str, Any]) -> CommandCause | None:
    """Return the cause that a row keeps; None where it keeps none, or one of another version."""
    try:
        return msgspec.convert(kept, CommandCause) if kept else None
    except msgspec.ValidationError:
        return None


def _title(detector: str, title: str, gettext: Callable[[str], str]) -> str:
    return title if detector == OF_CODE or not title else gettext(title)
