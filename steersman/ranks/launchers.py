"""Which of several processes this is, as launchers say by the environment, and PyTorch where it is loaded.

torchrun, accelerate, deepspeed and Lightning set RANK, LOCAL_RANK and WORLD_SIZE; MPI and Slurm have variables of their
own. Standard library only; torch is asked only where it is loaded already.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What `train` found in its own environment: there it told of `train`, and not of what it started.
OUTSIDE_VARIABLE = "STEERSMAN_OUTSIDE"
SPAWNED = "torch.multiprocessing.spawn"


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Number `rank` of `size` processes that train together; `size` is 0 where it is not known."""

    rank: int
    size: int


@dataclass(frozen=True, slots=True)
class Family:
    """The variables of a launcher: which process, of how many, and further ones that tell one launch from another."""

    ranks: tuple[str, ...]
    sizes: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.ranks + self.sizes + self.others


TORCH = Family(
    ("RANK", "LOCAL_RANK"),
    ("WORLD_SIZE",),
    ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
)
FAMILIES = (
    TORCH,
    Family(("OMPI_COMM_WORLD_RANK",), ("OMPI_COMM_WORLD_SIZE",), ("PMIX_NAMESPACE",)),
    Family(("MV2_COMM_WORLD_RANK",), ("MV2_COMM_WORLD_SIZE",)),
    Family(("PMI_RANK",), ("PMI_SIZE",)),
    # Not SLURM_NTASKS: a batch script has it too, and is one process all the same. A step has the number of its own.
    Family(("SLURM_PROCID", "PMIX_RANK"), ("SLURM_STEP_NUM_TASKS",), ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)


def outside(environment: Mapping[str, str]) -> str:
    """Return what launchers have said to this process, for one that it starts: there it is not news."""
    names = [name for family in FAMILIES for name in family.names]
    return json.dumps({name: environment[name] for name in names if name in environment})


def place_in(environment: Mapping[str, str]) -> RankPlace | None:
    """Return which process this is by its environment, None where no launcher has started several."""
    known = _known(environment.get(OUTSIDE_VARIABLE, ""))
    for family in FAMILIES:
        told = {name: environment[name] for name in family.names if name in environment}
        if told == {name: known[name] for name in family.names if name in known}:
            # Of this family nothing has come since `train` was started.
            continue
        size = _first(told, family.sizes)
        rank = _first(told, family.ranks)
        if size is None or rank is None or size <= 1:
            continue
        if family is TORCH and "RANK" not in told:
            # Lightning numbers the processes of a node, and the nodes.
            node = _first(told, ("NODE_RANK", "GROUP_RANK")) or 0
            rank = rank if node == 0 else max(1, rank)
        return RankPlace(rank, size)
    return None


def place_in_torch() -> RankPlace | None:
    """Return which process this is by PyTorch, None where it trains alone, or has not begun to meet the others."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None:
        return None
    try:
        if not distributed.is_available() or not distributed.is_initialized():
            return None
        place = RankPlace(int(distributed.get_rank()), int(distributed.get_world_size()))
    except (AttributeError, RuntimeError, ValueError):
        # Half imported, by another thread or on the way here.
        return None
    return place if place.size > 1 else None


def place_by_spawn() -> RankPlace | None:
    """Return which process of `torch.multiprocessing.spawn` this is, None where it is none of them.

    It hands the number to the function and to nothing else, so it is read where multiprocessing keeps the arguments.
    """
    process = _process()
    target: Any = getattr(process, "_target", None)
    arguments: tuple[Any, ...] = getattr(process, "_args", ())
    if getattr(target, "__module__", "") != SPAWNED or len(arguments) < 2 or not isinstance(arguments[1], int):
        return None
    return RankPlace(arguments[1], 0)


def own_place(environment: Mapping[str, str]) -> RankPlace | None:
    """Return which of several processes this is, None where it is alone as far as anybody has said."""
    return place_in_torch() or place_in(environment) or place_by_spawn()


def _process() -> Any:
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing.current_process() if multiprocessing is not None else None


def _known(text: str) -> dict[str, str]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _first(told: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            return int(told[name])
        except (KeyError, ValueError):
            continue
    return None
