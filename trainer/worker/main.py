"""The training process: `python -m trainer.worker.main <task.json>`. Imports torch and the client, never Django.

Exit codes: 0 finished or stopped, 1 an exception (recorded by the client), 2 an invalid task.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import steersman
from steersman.agent.machine.pynvml_notice import silence_pynvml_notice
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from trainer.worker.task import read_task

if TYPE_CHECKING:
    import torch


class DeviceError(ValueError):
    """A device that this host does not have. The text lists the available ones."""


def main(arguments: list[str]) -> int:
    """Train the task in the file named on the command line."""
    if len(arguments) != 1:
        print("usage: python -m trainer.worker.main TASK.json (started by manage.py train)", file=sys.stderr)
        return EXIT_BAD_INPUT
    task = read_task(Path(arguments[0]))
    run = steersman.attach()
    stop_on_signals(run)
    if task.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    silence_pynvml_notice()
    # torch takes seconds to load, so it is loaded after the run is attached, for signals and an early exit. Modules
    # stay until the end, so the garbage collector neither needs to run while they load, nor to search them later.
    gc.disable()
    import torch

    from trainer.worker.checkpoints import CheckpointError, load_checkpoint
    from trainer.worker.environment import describe_environment
    from trainer.worker.loop import train
    from trainer.worker.parallel import process_group
    from trainer.worker.randomness import seed_everything
    from trainer.worker.recipe import RecipeError, SpecError, load_recipe

    gc.freeze()
    gc.enable()
    try:
        device = choose_device(task.device, run.ranks)
        recipe = load_recipe(task.recipe)(task.parameters, device=device, seed=task.seed)
        recipe.rank, recipe.ranks = run.rank, run.ranks
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        seed_everything(task.seed, task.deterministic)
        run.record_environment(describe_environment(device))
        checkpoint = None
        if task.checkpoint is not None:
            checkpoint = load_checkpoint(Path(task.checkpoint["path"]), task.checkpoint["sha256"], run.rank)
        with process_group(run.ranks, device):
            train(
                recipe,
                run,
                checkpoint,
                segment=task.attempt,
                extra_epochs=task.extra_epochs,
                is_branch=task.is_branch,
            )
    except (SpecError, RecipeError, DeviceError, CheckpointError) as error:
        run.note(str(error), level="error")
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def stop_on_signals(run: steersman.Run) -> None:
    """On SIGTERM or a first SIGINT, finish the step, save and end; on a second SIGINT end at once; on SIGUSR1 save."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        run.request_stop()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        run.request_stop()
        signal.signal(signal.SIGINT, end)

    def save(_signal: int, _frame: FrameType | None) -> None:
        run.request("save_checkpoint")

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGUSR1, save)


def choose_device(name: str, ranks: int = 1) -> torch.device:
    """Return the device called auto, cpu, cuda or cuda:N; each of several ranks gets the GPU with its number.

    Raises `DeviceError` if this host does not have it.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    kind, _, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (":" in name and not index.isdecimal()):
        raise DeviceError(f"There is no device {name}: use auto, cpu, cuda or cuda:N.")
    if ranks > 1:
        if index:
            raise DeviceError(f"{ranks} ranks need a GPU each: use --device cuda instead of {name}, or --device cpu.")
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
        if ranks > count:
            raise DeviceError(
                f"{ranks} ranks need a GPU each, but this host has {count}: use fewer ranks, or --device cpu."
            )
        index = os.environ.get("LOCAL_RANK", "0")
    if int(index or 0) >= count:
        have = f"{count} CUDA device{'' if count == 1 else 's'}"
        one = "cuda:0" if count == 1 else f"one of cuda:0 to cuda:{count - 1}"
        remedy = f"use --device cpu, or {one}" if count else "use --device cpu"
        raise DeviceError(f"{name} was requested, but this host has {have}: {remedy}.")
    return torch.device("cuda", int(index or 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
