"""How long messages of the record side were in transit. No Django, no torch."""

from __future__ import annotations

from collections import deque

# Clocks drift apart by up to 0.1 ms per second, so only recent answers count.
RECENT_ANSWERS = 100


class TransitTime:
    """Bounds the time in transit of messages by the times of questions and their answers.

    An answer is made after its question was sent. The clocks of two hosts therefore differ by at least the time of the
    question here minus that of the answer there, as in Cristian's algorithm. Of several such bounds, the largest is the
    closest one.
    """

    def __init__(self) -> None:
        self._differences: deque[float] = deque(maxlen=RECENT_ANSWERS)

    def restart(self) -> None:
        """Forget the answers of the previous process, which had another clock."""
        self._differences.clear()

    def note_answer(self, asked_at: float, made_at_s: float) -> None:
        """An answer of time `made_at_s` arrived for a question of time `asked_at`, both in seconds of their process."""
        self._differences.append(asked_at - made_at_s)

    def at_most_s(self, made_at_s: float, now: float) -> float:
        """Return for how many seconds a message made at `made_at_s` was in transit at most, 0.0 if nothing is known."""
        if not self._differences:
            return 0.0
        return max(0.0, now - (made_at_s + max(self._differences)))
