"""The states of a run and their groups. Imports neither Django nor torch.

Pages and clients depend on the group only, so that a new state needs no change there.
"""

from __future__ import annotations

# A training process holds the run and should send heartbeats.
LIVE = frozenset({"running", "paused"})
# Nothing trains; another attempt may follow.
ENDED = frozenset({"finished", "stopped", "failed"})
# No attempt holds the run yet, or the next one has not begun.
WAITING = frozenset({"created", "queued"})
# The owner of a lost run sends no heartbeats; the run is live again when a heartbeat arrives.
LOST = frozenset({"lost"})
GROUPS = {"waiting": WAITING, "live": LIVE, "lost": LOST, "ended": ENDED}
STATES = frozenset().union(*GROUPS.values())


def group_of(state: str) -> str:
    """Return the group of a state: "waiting", "live", "lost" or "ended". Raises `ValueError` for an unknown state."""
    for name, states in GROUPS.items():
        if state in states:
            return name
    raise ValueError(f"unknown state of a run: {state!r}")
