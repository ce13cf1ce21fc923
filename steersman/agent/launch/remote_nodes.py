"""What the first node of a training knows of the others: their ranks, what each was sent, and samples of their GPUs.

No Django, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steersman.agent.launch.node_connection import NodeConnection


@dataclass(slots=True)
class RemoteRank:
    """What is known here of a rank on another node; `signal` is what whoever ends the attempt wants it to get."""

    rank: int
    has_joined: bool = False
    has_ended: bool = False
    # Whether it is taken for ended because its node is not heard of any more.
    is_lost: bool = False
    # As in `subprocess`, None where it is not known.
    code: int | None = None
    # Whether it ended before anybody was told to.
    was_free: bool = True
    # Its last word in the journal, and when it said that.
    said: dict[str, Any] | None = None
    said_at: float = 0.0
    signal: int = 0


@dataclass(slots=True)
class RemoteNode:
    number: int
    who: str
    ranks: list[int]
    link: NodeConnection | None = None
    gone_since: float = 0.0
    # The latest hold that its ranks look at.
    known: int = 0
    # Ranks of whose rows it has still to hear, and what it was told last.
    unheard: set[int] = field(default_factory=set)
    told: tuple[int, int, int] | None = None
    signals: dict[int, int] = field(default_factory=dict)
    # How much of the decisions it has: bytes, and lines.
    decisions_bytes: int = 0
    decided: int = 0
    ends: list[int] = field(default_factory=list)
    # How many GPUs it has, and what was read of those that it uses since that was last taken.
    boards: int | None = None
    samples: dict[str, float] = field(default_factory=dict)


def take_samples(nodes: Mapping[int, RemoteNode], own_boards: int | None) -> dict[str, float]:
    """Return what the other nodes read of their GPUs, numbered behind those of the nodes before them.

    `own_boards` is how many GPUs the first node has, as far as that is known: a number must never change.
    """
    taken: dict[str, float] = {}
    before = own_boards
    for place, number in enumerate(sorted(nodes), start=1):
        node = nodes[number]
        if before is None or node.boards is None or number != place:
            break
        samples, node.samples = node.samples, {}
        taken |= {renumbered(name, before): value for name, value in samples.items()}
        before += node.boards
    return taken


def renumbered(name: str, by: int) -> str:
    """Return the series of a GPU, such as gpu/0/power_w or gpu/0.1/power_w, for one that comes so many behind."""
    kind, gpu, rest = name.split("/", 2)
    board, dot, instance = gpu.partition(".")
    return f"{kind}/{int(board) + by}{dot}{instance}/{rest}"


def lost_sentence(ranks: Sequence[int]) -> str:
    """Return what is said of a rank whose node is not heard of any more."""
    if len(ranks) == 1:
        return "The connection to its node is lost."
    return f"The connection to its node, that of ranks {ranks[0]} to {ranks[-1]}, is lost."
