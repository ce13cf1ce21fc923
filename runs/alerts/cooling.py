"""Cool-downs: an alert that begins again too soon is held back until its cool-down is over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Generic, TypeVar

# A detector and a series.
Key = tuple[str, str]
Found = TypeVar("Found")


class Cooling(Generic[Found]):
    """Tracks the open alarms, the reported ones among them, and those that are held back. Callers pass the time.

    `key_of` returns detector and series of a finding, `cool_down_of` the cool-down of a key in seconds, `active` the
    keys of the current alarms.
    """

    def __init__(
        self,
        key_of: Callable[[Found], Key],
        cool_down_of: Callable[[Key], float],
        active: Callable[[], Collection[Key]],
    ) -> None:
        self._key_of = key_of
        self._cool_down_of = cool_down_of
        self._active = active
        self.lasting: set[Key] = set()
        # When the last alert of each key began, and the alerts that began again too soon: they are reported later if
        # they last.
        self._began: dict[Key, float] = {}
        self._held: dict[Key, Found] = {}
        self._left_out = 0

    @property
    def holds_back(self) -> bool:
        """Whether an alert is held back, and may therefore begin without being in `began`."""
        return bool(self._held)

    def beginning(self, began: Iterable[Found], time: float) -> list[Found]:
        """Return the alerts that begin at `time`, of `began` and of those held back; hold back those that begin too
        soon.
        """
        found = []
        for each in began:
            key = self._key_of(each)
            if self._is_cooling(key, time):
                # If the end of the alert has not been recorded yet, the alert continues.
                if key not in self.lasting:
                    self._leave_out(key)
                    self._held[key] = each
            else:
                found.append(each)
        cooled = [key for key in self._held if not self._is_cooling(key, time)]
        active = self._active() if cooled else ()
        for key in cooled:
            if key in active:
                found.append(self._held.pop(key))
            else:
                self._leave_out(key)
        for each in found:
            key = self._key_of(each)
            self._began[key] = time
            self.lasting.add(key)
        return found

    def over(self) -> list[Key]:
        """Return the keys of alarms that ended."""
        active = set(self._active())
        for key in self._held.keys() - active:
            self._leave_out(key)
        ended = sorted(self.lasting - active)
        self.lasting &= active
        return ended

    def forget(self) -> None:
        """Let all alerts begin again at once: the training has gone back to before them."""
        self.end()
        self._began.clear()

    def end(self) -> None:
        """Drop the alerts that are held back, because no more points follow."""
        for key in list(self._held):
            self._leave_out(key)

    def take_left_out(self) -> int:
        """Return how many held back alerts ended before they could be reported, since the last call."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def _is_cooling(self, key: Key, time: float) -> bool:
        # The clocks of ranks differ, and clocks can be set back.
        return key in self._began and abs(time - self._began[key]) < self._cool_down_of(key)

    def _leave_out(self, key: Key) -> None:
        if self._held.pop(key, None) is not None:
            self._left_out += 1
