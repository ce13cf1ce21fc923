"""The states of a run, and the group that each belongs to. Imports neither Django nor torch.

Pages and clients decide by the group: a state that is added later needs no change there.
"""

from __future__ import annotations

# A training process belongs to the run and should send heartbeats.
LIVE = frozenset({"running", "paused"})
# Nothing trains; another attempt may follow.
ENDED = frozenset({"finished", "stopped", "failed"})
# No attempt holds the run so far, or the next one has not begun.
WAITING = frozenset({"created", "queued"})
# The owner of a lost run sends no heartbeats; the run is live again when a heartbeat arrives.
LOST = frozenset({"lost"})
GROUPS = {"waiting": WAITING, "live": LIVE, "lost": LOST, "ended": ENDED}
STATES = frozenset().union(*GROUPS.values())


def group_of(state: str) -> str:
    """Return the group of a state: "waiting", "live", "lost" or "ended". Raises `ValueError` if there is none."""
    for name, states in GROUPS.items():
        if state in states:
            return name
    raise ValueError(f"unknown state of a run: {state!r}")
