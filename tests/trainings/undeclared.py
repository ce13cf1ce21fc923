"""A training that does not declare its ranks: undeclared.py MODE.

launched: started by a launcher; each rank attaches. Ranks other than 0 continue for ever and ignore SIGTERM.
gloo: attaches, then starts another rank that does not, and joins it by PyTorch.
siblings: starts two processes that attach, without variables about ranks.
helper: attaches, and starts a process that attaches too, as an imported module or a loader's worker may.
spawn: torch.multiprocessing.spawn, whose rank 1 starts first.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import steersman


def train(run: steersman.Run, rank: int = 0) -> None:
    rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
    step = 0
    while not run.stopping:
        step += 1
        run.log(step, loss=100.0 * rank + 1.0, rate=rate.value)
        time.sleep(0.01)


def attach_and_wait() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steersman.attach()
    while True:
        time.sleep(1)


def launched() -> None:
    if os.environ["RANK"] == "0":
        # Far later than the other process, which must not become the recorded one.
        wait_for_mark()
        train(steersman.attach())
    else:
        attach_and_wait()


def wait_for_mark() -> None:
    while not list(Path(os.environ["STEERSMAN_ATTEMPT_FOLDER"]).glob("beside-*.json")):
        time.sleep(0.01)


def gloo() -> None:
    import torch.distributed as dist

    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]}
    run = steersman.attach()
    script = (
        "import os, time, torch.distributed as d; d.init_process_group('gloo', rank=1, world_size=2); time.sleep(600)"
    )
    subprocess.Popen([sys.executable, "-c", script], env=os.environ | meet)
    os.environ.update(meet)
    dist.init_process_group("gloo", rank=0, world_size=2)
    train(run)


def siblings() -> None:
    children = [subprocess.Popen([sys.executable, __file__, "sibling"]) for _ in range(2)]
    sys.exit(max(abs(child.wait()) for child in children))


def sibling() -> None:
    run = steersman.attach()
    if run.supervised:
        wait_for_mark()
        train(run)
    else:
        attach_and_wait()


def helper() -> None:
    run = steersman.attach()
    subprocess.run([sys.executable, "-c", "import steersman; assert not steersman.attach().supervised"], check=True)
    forked = multiprocessing.get_context("fork").Process(target=attach_forked)
    forked.start()
    forked.join()
    assert forked.exitcode == 0
    train(run)


def attach_forked() -> None:
    assert not steersman.attach().supervised


def of_spawn(rank: int) -> None:
    if rank == 0:
        wait_for_mark()
    run = steersman.attach()
    for step in range(1, 21):
        run.log(step, loss=100.0 * rank + 1.0)


def spawn() -> None:
    import torch.multiprocessing as mp

    mp.spawn(of_spawn, nprocs=2)


if __name__ == "__main__":
    {
        each.__name__: each for each in (launched, gloo, siblings, sibling, helper, spawn)
    }[sys.argv[1]]()  # fmt: skip
