"""The state of the other nodes on the first node of a training: their ranks, messages and GPU samples.

No Django, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steersman.agent.launch.node_connection import NodeConnection
from steersman.records.kinds import EndRecord


@dataclass(slots=True)
class RemoteRank:
    """The state of a rank on another node; `signal` is the signal to send to it, 0 if none."""

    rank: int
    has_joined: bool = False
    has_ended: bool = False
    # Whether it counts as ended because the connection to its node is lost.
    is_lost: bool = False
    # As in `subprocess`, None if it is unknown.
    code: int | None = None
    # Whether it ended before any rank was asked to end.
    ended_by_itself: bool = True
    # The last record of its journal, None if that is not an END record.
    end_record: EndRecord | None = None
    signal: int = 0


@dataclass(slots=True)
class RemoteNode:
    """Another node: its connection, and what was sent to it and received from it."""

    number: int
    # Chosen at random by its node client, so another process has another identity.
    identity: str
    ranks: list[int]
    link: NodeConnection | None = None
    gone_since: float = 0.0
    # The latest barrier that its ranks have seen.
    barrier_seen: int = 0
    # Ranks whose current rows were not sent to it yet, and the barrier state and signals that were sent last.
    unsent_rows: set[int] = field(default_factory=set)
    sent_state: tuple[int, int, int] | None = None
    signals: dict[int, int] = field(default_factory=dict)
    # How much of the decisions was sent to it, in bytes and lines.
    decisions_bytes: int = 0
    decided: int = 0
    # Ranks whose ends were received and are still to be confirmed.
    unconfirmed_ends: list[int] = field(default_factory=list)
    # Its number of GPUs, and the new samples of those in use.
    boards: int | None = None
    samples: dict[str, float] = field(default_factory=dict)


def take_samples(nodes: Mapping[int, RemoteNode], own_boards: int | None) -> dict[str, float]:
    """Return the samples of the other nodes' GPUs, numbered after those of the nodes before them.

    `own_boards` is the number of GPUs of the first node, None until it is known: the number of a GPU must never change.
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
    """Return the series of a GPU, such as gpu/0/power_w or gpu/0.1/power_w, with `by` added to its number."""
    kind, gpu, rest = name.split("/", 2)
    board, dot, instance = gpu.partition(".")
    return f"{kind}/{int(board) + by}{dot}{instance}/{rest}"


def lost_sentence(ranks: Sequence[int]) -> str:
    """Return the error of a rank that is lost with its node; `ranks` are those of the node."""
    if len(ranks) == 1:
        return "The connection to the node of this rank is lost."
    return f"The connection to the node of ranks {ranks[0]} to {ranks[-1]} is lost."
