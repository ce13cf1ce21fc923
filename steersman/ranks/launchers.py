"""The rank of this process, from the environment variables of launchers, or from PyTorch if it is loaded.

torchrun, accelerate, deepspeed and Lightning set RANK, LOCAL_RANK and WORLD_SIZE; MPI and Slurm have other variables.
Standard library only; torch is used only if it is already loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The launchers' variables in the environment of `train` itself: they describe `train`, not the processes that it
# starts.
OUTSIDE_VARIABLE = "STEERSMAN_OUTSIDE"
SPAWNED = "torch.multiprocessing.spawn"


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Rank `rank` of `size` processes that train together; `size` is 0 if it is unknown."""

    rank: int
    size: int


@dataclass(frozen=True, slots=True)
class LauncherVariables:
    """The variables of a launcher: the rank, the number of processes, and others that differ between launches."""

    ranks: tuple[str, ...]
    sizes: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return self.ranks + self.sizes + self.others


TORCH = LauncherVariables(
    ("RANK", "LOCAL_RANK"),
    ("WORLD_SIZE",),
    ("NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
)
LAUNCHERS = (
    TORCH,
    LauncherVariables(("OMPI_COMM_WORLD_RANK",), ("OMPI_COMM_WORLD_SIZE",), ("PMIX_NAMESPACE",)),
    LauncherVariables(("MV2_COMM_WORLD_RANK",), ("MV2_COMM_WORLD_SIZE",)),
    LauncherVariables(("PMI_RANK",), ("PMI_SIZE",)),
    # Not SLURM_NTASKS, which a batch script also has although it is one process. A job step has its own number of
    # tasks.
    LauncherVariables(("SLURM_PROCID", "PMIX_RANK"), ("SLURM_STEP_NUM_TASKS",), ("SLURM_JOB_ID", "SLURM_STEP_ID")),
)


def outside(environment: Mapping[str, str]) -> str:
    """Return the launchers' variables of this process, so that its child processes can ignore them."""
    names = [name for launcher in LAUNCHERS for name in launcher.names]
    return json.dumps({name: environment[name] for name in names if name in environment})


def place_in(environment: Mapping[str, str]) -> RankPlace | None:
    """Return the rank of this process by its environment, None if no launcher has started several."""
    known = _known(environment.get(OUTSIDE_VARIABLE, ""))
    for launcher in LAUNCHERS:
        given = {name: environment[name] for name in launcher.names if name in environment}
        if given == {name: known[name] for name in launcher.names if name in known}:
            # This launcher has set nothing since `train` was started.
            continue
        size = _first(given, launcher.sizes)
        rank = _first(given, launcher.ranks)
        if size is None or rank is None or size <= 1:
            continue
        if launcher is TORCH and "RANK" not in given:
            # Lightning numbers the nodes and the processes of each node.
            node = _first(given, ("NODE_RANK", "GROUP_RANK")) or 0
            rank = rank if node == 0 else max(1, rank)
        return RankPlace(rank, size)
    return None


def place_in_torch() -> RankPlace | None:
    """Return the rank of this process by PyTorch, None if it trains alone, or has not joined a process group yet."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None:
        return None
    try:
        if not distributed.is_available() or not distributed.is_initialized():
            return None
        place = RankPlace(int(distributed.get_rank()), int(distributed.get_world_size()))
    except (AttributeError, RuntimeError, ValueError):
        # torch is only partly imported, by another thread or by the caller of this.
        return None
    return place if place.size > 1 else None


def place_by_spawn() -> RankPlace | None:
    """Return the rank of this process under `torch.multiprocessing.spawn`, None if spawn did not start it.

    spawn passes the rank only to the function, so it is read from the arguments that multiprocessing stores.
    """
    process = _process()
    target: Any = getattr(process, "_target", None)
    arguments: tuple[Any, ...] = getattr(process, "_args", ())
    if getattr(target, "__module__", "") != SPAWNED or len(arguments) < 2 or not isinstance(arguments[1], int):
        return None
    return RankPlace(arguments[1], 0)


def own_place(environment: Mapping[str, str]) -> RankPlace | None:
    """Return the rank of this process, None if it is alone as far as is known."""
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


def _first(given: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            return int(given[name])
        except (KeyError, ValueError):
            continue
    return None
