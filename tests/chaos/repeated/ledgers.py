"""Random ledgers of a recipe's run: knobs, named checkpoints, rollbacks, restarts, and a branch with its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support.stack import Stack, kill, wait_for

EPOCHS = 30
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008)
RESTARTS = ("", "stopped", "killed")


@dataclass(frozen=True, slots=True)
class Family:
    """A run and its branch. `lost_after` is the step from which the second attempt resumed, None if none was lost."""

    run: Any
    branch: Any
    lost_after: int | None


class Steering:
    """One run that is steered as by a person: it pauses at steps that nobody has announced to the ledger."""

    def __init__(self, stack: Stack, run_id: int, rng: random.Random) -> None:
        self.stack = stack
        self.run_id = run_id
        self.rng = rng

    @property
    def run(self) -> Any:
        from runs.models import Run

        return Run.objects.get(pk=self.run_id)

    def begin(self) -> None:
        """Start the training, which waits paused before its first step."""
        self.stack.train(self.run_id, "--quiet")
        self.wait_until("paused")

    def wait_until(self, state: str) -> None:
        def reached() -> bool:
            found = self.run.state
            assert found in (state, "created", "running", "paused", "stopped"), f"{found}\n{self.stack.log()}"
            return bool(found == state)

        wait_for(reached, lambda: f"run {self.run_id} to be {state}\n{self.stack.log()}", timeout_s=120)

    def ask(self, command: Any, at_step: int | None = None, expected: str = "applied") -> Any:
        """Send a command; wait for its outcome unless it waits for a step. Return its row."""
        from runs.commands.record import record
        from runs.protocol.commands import Request

        request = Request(id=uuid4(), command=command, at_step=at_step)
        row = record(self.run_id, request, author_id=None, author_name="replay test")
        if at_step is None:

            def is_settled() -> bool:
                row.refresh_from_db()
                return row.state in ("applied", "refused", "expired")

            wait_for(is_settled, lambda: f"{command} on run {self.run_id}\n{self.stack.log()}")
        assert row.state == (expected if at_step is None else row.state) != "refused", f"{command}: {row.outcome}"
        return row

    def go_to(self, step: int) -> None:
        """Train up to a step, and wait there."""
        from runs.protocol.commands import Pause

        self.ask(Pause(), at_step=step)
        self.resume()
        self.wait_until_step(step)

    def wait_until_step(self, step: int) -> None:
        wait_for(
            lambda: (run := self.run).state == "paused" and run.step >= step,
            f"run {self.run_id} to pause at step {step}\n{self.stack.log()}",
            timeout_s=120,
        )

    def resume(self) -> None:
        from runs.protocol.commands import Resume

        self.ask(Resume())

    def turn(self, at_step: int | None = None) -> None:
        """Change the learning rate, now or at a step."""
        from runs.protocol.commands import SetKnob

        self.ask(SetKnob(knob="learning_rate", value=self.rng.choice(RATES)), at_step)

    def save(self, name: str, at_step: int | None = None) -> None:
        from runs.protocol.commands import SaveCheckpoint

        self.ask(SaveCheckpoint(name=name), at_step)

    def roll_back(self) -> int:
        """Go back to a random checkpoint of the current line; return its step."""
        from runs.protocol.commands import RollBack
        from runs.recording.record_side.lineage import lineage

        chosen = self.rng.choice(["newest", *(str(each.pk) for each in lineage(self.run))])
        more: dict[str, Any] = self.rng.choice([
            {}, {"keep_knobs": True}, {"knob": "learning_rate", "factor": 0.5},
            {"skip_batches": self.rng.randint(1, 5)},
        ])  # fmt: skip
        done = self.ask(RollBack(checkpoint=chosen, **more))
        return int(done.new_value["step"])

    def lap(self) -> None:
        """Train on for a while, with a change on the way, and wait."""
        begin = self.run.step
        self.turn(begin + self.rng.randint(1, 40))
        if self.rng.random() < 0.5:
            self.save(f"at {begin} {self.rng.randint(0, 10**6)}", begin + self.rng.randint(1, 40))
        self.go_to(begin + self.rng.randint(41, 120))

    def finish(self) -> None:
        self.resume()
        self.wait_until("finished")


def random_family(stack: Stack, rng: random.Random, ranks: int) -> Family:
    """Train a run and a branch of it, each with at least one rollback and three changes of a knob."""
    from runs.models import Project, Recipe, Run

    recipe = Recipe.objects.get(spec="digits")
    parameters = {name: spec.default for name, spec in recipe.parameter_specs.items()} | {"epochs": EPOCHS}
    run = Run.objects.create(
        project=Project.objects.get(), recipe=recipe, name="ledger", parameters=parameters, device="cpu",
        seed=rng.randrange(1 << 20), ranks=ranks, start_paused=True,
    )  # fmt: skip
    steering = Steering(stack, run.pk, rng)
    steering.begin()
    steering.turn()
    steering.save("early", rng.randint(5, 30))
    steering.lap()
    steering.turn()
    steering.roll_back()
    if rng.random() < 0.5:
        steering.turn()
        steering.lap()
        steering.roll_back()
    steering.lap()
    branch = _opened(steering)
    lost_after = _restart(steering)
    if lost_after is None and steering.run.state != "finished":
        steering.finish()
    of_branch = Steering(stack, branch.pk, rng)
    of_branch.begin()
    of_branch.turn()
    of_branch.lap()
    of_branch.roll_back()
    of_branch.turn()
    of_branch.lap()
    of_branch.finish()
    return Family(steering.run, of_branch.run, lost_after)


def _opened(steering: Steering) -> Any:
    """Open a branch at a checkpoint of the run, on its current line or not."""
    from runs.branching.opening import open_branch
    from runs.branching.requests import Author, BranchRequest
    from runs.models import Run

    rng = steering.rng
    checkpoint = rng.choice(list(steering.run.checkpoints.order_by("pk")))
    asked = BranchRequest(checkpoint=str(checkpoint.pk), knobs={"learning_rate": rng.choice(RATES)})
    branch, _ = open_branch(steering.run, asked, Author("replay test"))
    Run.objects.filter(pk=branch.pk).update(start_paused=True)
    return branch


def _restart(steering: Steering) -> int | None:
    """End the process of a paused run in one of three ways, and train to the end; return the step that it lost."""
    from runs.protocol.commands import Stop

    how = steering.rng.choice(RESTARTS)
    if not how:
        return None
    saved = steering.run.step
    if how == "stopped":
        steering.ask(Stop())
        steering.wait_until("stopped")
    else:
        steering.save("before the kill")
        steering.turn(saved + 5)
        steering.go_to(saved + 20)
        pid = steering.stack.worker_pid(steering.run_id)
        assert pid is not None and kill(pid)
        wait_for(lambda: steering.run.state == "failed", "the death of the worker")
    steering.stack.train(steering.run_id, "--quiet")
    wait_for(lambda: steering.run.state == "finished", lambda: f"the end\n{steering.stack.log()}", timeout_s=120)
    resumed: int = steering.run.attempts.get(number=2).resumed_step
    return resumed if how == "killed" else None
