"""The layers of a model: its parameters grouped by module, in at most `MOST_LAYERS` groups. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Each layer has three series.
MOST_LAYERS = 100
# Parts that wrappers add to the names of parameters: compilation, FSDP, checkpoints of activations.
OF_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
OF_DATA_PARALLEL = "module."


def layer_names(parameters: Sequence[str], whole: str, most: int = MOST_LAYERS) -> list[str]:
    """Return the name of the layer of each parameter, in order: its module, such as `layer4.1.conv2`.

    `whole` names the model itself, for parameters that belong to it directly. If there are more than `most` such
    modules, they are grouped by their parent modules, as deep as `most` allows; those of one list by neighbours.
    """
    paths = [_path(name) for name in _plain(parameters)]
    depth = max(map(len, paths), default=0)
    while depth > 1 and len({path[:depth] for path in paths}) > most:
        depth -= 1
    names = [".".join(path[:depth]) or whole for path in paths]
    return _in_runs(names, most)


def _plain(parameters: Sequence[str]) -> list[str]:
    """Return names without the prefix of DataParallel and DistributedDataParallel."""
    if parameters and all(name.startswith(OF_DATA_PARALLEL) for name in parameters):
        return [name.removeprefix(OF_DATA_PARALLEL) for name in parameters]
    return list(parameters)


def _path(parameter: str) -> tuple[str, ...]:
    """Return the modules that lead to a parameter."""
    return tuple(part for part in parameter.split(".")[:-1] if part not in OF_WRAPPERS)


def _in_runs(names: Iterable[str], most: int) -> list[str]:
    """Return names; if there are more than `most`, each represents several neighbours."""
    names = list(names)
    distinct = list(dict.fromkeys(names))
    if len(distinct) <= most:
        return names
    size = -(-len(distinct) // most)
    runs = [distinct[first : first + size] for first in range(0, len(distinct), size)]
    run_of = {name: f"{run[0]} to {run[-1]}" if len(run) > 1 else name for run in runs for name in run}
    return [run_of[name] for name in names]
