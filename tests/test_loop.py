"""The training loop, its checkpoints and exact resume, with a run that only remembers."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from coxswain import NullRun
from coxswain.checkpoint import remove_checkpoint, verify_checkpoint
from trainer.loop import train
from trainer.randomness import epoch_order, sample_uniform, seed_everything
from trainer.recipe import Batch, Recipe, load_recipe, parameter
from trainer.saving import CheckpointError, load_checkpoint
from trainer.worker import DeviceError, choose_device

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
STEP_SERIES = {
    "train/loss",
    "train/accuracy",
    "optimiser/learning_rate",
    "optimiser/gradient_norm",
    "speed/samples_per_second",
    "speed/step_ms",
    "speed/data_wait_share",
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other where tests share few cores, and add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class RememberingRun(NullRun):
    """Keeps what it is told, and stops after step `stop_at`."""

    def __init__(self, folder: Path | None = None, stop_at: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self._stop_at = stop_at
        self.points: dict[int, dict[str, float]] = {}
        self.epochs: dict[int, dict[str, Any]] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.notes: list[tuple[str, str]] = []
        self.texts: dict[tuple[int | None, str], str] = {}
        self.planned: dict[str, int | None] = {}
        self.outcome = ""

    @property
    def stopping(self) -> bool:  # type: ignore[override]
        return self._stop_at is not None and max(self.points, default=0) >= self._stop_at

    def log(self, step: int, /, **values: Any) -> None:
        assert step not in self.points
        self.points[step] = {name: float(value) for name, value in values.items()}

    def log_epoch(self, epoch: int, /, **values: Any) -> None:  # type: ignore[override]
        self.epochs[epoch] = values

    def plan(self, **totals: int | None) -> None:  # type: ignore[override]
        self.planned = totals

    def note(self, text: str, level: str = "info") -> None:
        self.notes.append((level, text))

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None:
        self.texts[epoch, name] = text

    def record_checkpoint(self, path: Path, **fields: Any) -> None:
        verify_checkpoint(path, fields["sha256"])
        assert sum(file.stat().st_size for file in path.iterdir()) == fields["size_bytes"]
        self.checkpoints.append({"path": path, **fields})

    def finish(self, outcome: str = "finished", *, step: int | None = None) -> None:
        assert not self.outcome
        self.outcome = outcome

    def series(self, name: str) -> dict[int, float]:
        return {step: values[name] for step, values in self.points.items()}


class Noisy(Recipe):
    """A recipe with everything that could break exact resume: dropout, momentum, schedule, augmentation."""

    best_metric = "validation_loss"
    hidden: int = parameter(8, minimum=1, maximum=64)
    breaks_at: int = parameter(0, minimum=0)

    def build(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(50, 6, generator=generator)
        self.targets = (self.inputs.sum(1) > 0).long()
        self.train_size = 40
        self.model = nn.Sequential(nn.Linear(6, self.hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(self.hidden, 2))
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimiser, step_size=3, gamma=0.9)
        self.drawn: list[int] = []

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        for number, indices in enumerate(self.shuffled(epoch, first), start=first):
            self.drawn.append(number)
            noise = sample_uniform(self.seed, epoch, indices, 6).float()
            yield self.inputs[indices] + noise, self.targets[indices]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = batch
        if self.breaks_at and len(self.drawn) >= self.breaks_at:
            raise ZeroDivisionError("the recipe is at fault")
        logits = self.model(inputs)
        accuracy = (logits.argmax(1) == targets).float().mean()
        return nn.functional.cross_entropy(logits, targets), {"accuracy": accuracy}

    def evaluate(self) -> dict[str, float | Tensor]:
        loss, values = self.loss((self.inputs[40:], self.targets[40:]))
        return {"validation_loss": loss, "validation_accuracy": values["accuracy"]}


def noisy(seed: int = 1, **parameters: Any) -> Noisy:
    return Noisy({"epochs": 4, "batch_size": 8, "threads": 1} | parameters, device=CPU, seed=seed)


def run_through(run: RememberingRun, recipe: Recipe, checkpoint: dict[str, Any] | None = None) -> RememberingRun:
    seed_everything(recipe.seed, deterministic=False)
    train(recipe, run, checkpoint)
    return run


def last_checkpoint(run: RememberingRun) -> dict[str, Any]:
    return load_checkpoint(run.checkpoints[-1]["path"], run.checkpoints[-1]["sha256"])


def test_it_logs_the_promised_series_at_every_step_and_a_row_an_epoch() -> None:
    run = run_through(RememberingRun(), noisy())
    assert list(run.points) == list(range(1, 21))
    assert all(set(values) == STEP_SERIES for values in run.points.values())
    assert run.planned == {"total_epochs": 4, "total_steps": 20, "steps_per_epoch": 5}
    assert list(run.epochs) == [1, 2, 3, 4]
    assert {
        "step",
        "duration_s",
        "best",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "samples_per_second",
    } == set(run.epochs[1])
    assert run.outcome == "finished"


def test_it_averages_an_epoch_over_samples_not_over_batches() -> None:
    run = run_through(RememberingRun(), noisy(epochs=1, batch_size=32))
    losses = run.series("train/loss")
    assert run.epochs[1]["train_loss"] == pytest.approx((32 * losses[1] + 8 * losses[2]) / 40)


@pytest.mark.parametrize("stop_at", [1, 7, 10, 19])
def test_it_goes_on_bit_for_bit_from_wherever_it_was_stopped(tmp_path: Path, stop_at: int) -> None:
    whole = run_through(RememberingRun(), noisy())
    first = run_through(RememberingRun(tmp_path, stop_at=stop_at), noisy())
    assert first.outcome == "stopped"
    assert list(first.points) == list(range(1, stop_at + 1))

    recipe = noisy()
    second = run_through(RememberingRun(), recipe, last_checkpoint(first))

    assert list(second.points) == list(range(stop_at + 1, 21))
    for name in ("train/loss", "train/accuracy", "optimiser/learning_rate", "optimiser/gradient_norm"):
        assert first.series(name) | second.series(name) == whole.series(name)
    joined = first.epochs | second.epochs
    for epoch, row in whole.epochs.items():
        timed = ("duration_s", "samples_per_second")
        assert {k: v for k, v in joined[epoch].items() if k not in timed} == {
            k: v for k, v in row.items() if k not in timed
        }
    assert recipe.drawn[0] == stop_at % 5 or stop_at % 5 == 0


def test_it_trains_further_when_a_finished_run_is_given_more_epochs(tmp_path: Path) -> None:
    first = run_through(RememberingRun(tmp_path), noisy(epochs=2))
    second = run_through(RememberingRun(), noisy(epochs=3), last_checkpoint(first))
    assert list(second.epochs) == [3]
    assert list(second.points) == list(range(11, 16))


def test_it_keeps_the_last_two_checkpoints_and_the_best(tmp_path: Path) -> None:
    recipe = noisy(epochs=6)
    run = RememberingRun(tmp_path)
    scores = iter([0.5, 0.1, 0.4, 0.3, 0.2, 0.6])
    recipe.evaluate = lambda: {"validation_loss": next(scores)}  # type: ignore[method-assign]
    run_through(run, recipe)
    assert [(each["name"], each["epoch"], each["step"]) for each in run.checkpoints] == [
        ("best", 1, 5),
        ("best", 2, 10),
        ("last", 3, 15),
        ("last", 4, 20),
        ("last", 5, 25),
        ("last", 6, 30),
    ]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000010", "step-00000025", "step-00000030"]
    assert [epoch for epoch, row in run.epochs.items() if row["best"]] == [1, 2]


def test_it_saves_every_so_many_epochs_the_best_and_the_last(tmp_path: Path) -> None:
    recipe = noisy(epochs=5, save_every=3)
    scores = iter([0.1, 0.2, 0.3, 0.4, 0.5])
    recipe.evaluate = lambda: {"validation_loss": next(scores)}  # type: ignore[method-assign]
    run = run_through(RememberingRun(tmp_path), recipe)
    assert [each["epoch"] for each in run.checkpoints] == [1, 3, 5]


def test_it_trains_on_when_the_disk_is_full_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    run = run_through(RememberingRun(tmp_path, stop_at=12), noisy())
    assert len(run.points) == 12
    assert run.outcome == "stopped"
    assert run.checkpoints == []
    assert [level for level, _ in run.notes] == ["error"] * 3
    assert "step 12 could not be saved: No space left on device" in run.notes[-1][1]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_it_trains_on_when_the_disk_fills_while_torch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", lambda path, mode: FullDisk(path, mode))
    run = run_through(RememberingRun(tmp_path), noisy(epochs=1))
    assert run.outcome == "finished"
    assert "could not be saved: No space left on device" in run.notes[0][1]


def test_it_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    run = run_through(RememberingRun(tmp_path, stop_at=2), noisy())
    with pytest.raises(CheckpointError, match="does not fit the model"):
        train(noisy(hidden=9), RememberingRun(), last_checkpoint(run))


def test_it_refuses_a_checkpoint_that_is_damaged_or_gone(tmp_path: Path) -> None:
    run = run_through(RememberingRun(tmp_path, stop_at=2), noisy())
    path, sha256 = run.checkpoints[-1]["path"], run.checkpoints[-1]["sha256"]
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(path, sha256)
        file.write_bytes(whole[:-1])
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(path, sha256)
        file.unlink()
        with pytest.raises(CheckpointError, match="not there"):
            load_checkpoint(path, sha256)
        file.write_bytes(whole)
    load_checkpoint(path, sha256)
    remove_checkpoint(path)
    with pytest.raises(CheckpointError, match="not on this host"):
        load_checkpoint(path, sha256)


def test_it_lets_a_recipes_exception_through_after_what_was_logged() -> None:
    run = RememberingRun()
    with pytest.raises(ZeroDivisionError):
        run_through(run, noisy(breaks_at=3))
    assert list(run.points) == [1, 2]
    assert run.outcome == ""


def test_it_names_a_recipe_that_yields_too_few_batches() -> None:
    class Short(Noisy):
        """Ends its epochs early."""

        def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
            yield self.inputs[:8], self.targets[:8]

    recipe = Short({"epochs": 1, "batch_size": 8}, device=CPU)
    with pytest.raises(RuntimeError, match="after 1 batches of epoch 1; steps_per_epoch says 5"):
        run_through(RememberingRun(), recipe)


def test_it_logs_a_loss_that_is_not_a_number_and_calls_no_such_epoch_best() -> None:
    recipe = noisy(epochs=1)
    recipe.evaluate = lambda: {"validation_loss": float("nan")}  # type: ignore[method-assign]
    run = run_through(RememberingRun(), recipe)
    assert run.epochs[1]["best"] is False


def test_it_repeats_a_run_of_the_same_seed_and_differs_with_another() -> None:
    losses = [run_through(RememberingRun(), noisy(seed=seed)).series("train/loss") for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_it_orders_and_augments_by_seed_epoch_and_sample_alone() -> None:
    assert sorted(epoch_order(1, 1, 100).tolist()) == list(range(100))
    orders = {tuple(epoch_order(seed, epoch, 100).tolist()) for seed in (0, 1, 2**32) for epoch in (1, 2)}
    assert len(orders) == 6
    draws = sample_uniform(1, 2, torch.arange(10_000), 2)
    assert torch.equal(sample_uniform(1, 2, torch.tensor([77, 3]), 2), draws[[77, 3]])
    assert draws.min() >= 0 and draws.max() < 1
    assert draws.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert abs(torch.corrcoef(draws.T)[0, 1].item()) < 0.05
    assert not torch.equal(sample_uniform(1, 3, torch.arange(10_000), 2), draws)


def test_it_classifies_real_mnist_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COXSWAIN_DATA", str(tmp_path))
    recipe = load_recipe("mnist")({"epochs": "4", "threads": "1"}, device=CPU, seed=0)
    run = run_through(RememberingRun(), recipe)
    assert run.planned["steps_per_epoch"] == 63
    assert max(row["validation_accuracy"] for row in run.epochs.values()) >= 0.95
    assert sorted(path.name for path in (tmp_path / "datasets").iterdir()) == ["mnist_5k.npy"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda:1", "cuda:1 was asked for but this host has 0 CUDA devices: use --device cpu"),
        ("tpu", "There is no device tpu"),
        ("cuda:x", "There is no device cuda:x"),
    ],
)
def test_it_says_which_device_to_use_instead(name: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=sentence):
        choose_device(name)


def test_it_takes_the_gpu_by_itself_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="this host has 2 CUDA devices: use --device cuda:0 to cuda:1, or cpu"):
        choose_device("cuda:2")


class Worker:
    """A worker process on a task of its own, and what its journal tells."""

    def __init__(self, folder: Path, **task: Any) -> None:
        self.folder = folder / "attempt"
        self.folder.mkdir()
        file = folder / "task.json"
        file.write_text(json.dumps({"run": 1, "attempt": 1, "recipe": "digits", "device": "cpu"} | task))
        environment = os.environ | {
            "COXSWAIN_ATTEMPT_FOLDER": str(self.folder),
            "COXSWAIN_DATA": str(folder),
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer.worker", file],
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )

    def journal(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("journal-*.bin")))

    def end(self) -> int:
        _, self.errors = self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(**task: Any) -> Worker:
        started.append(Worker(tmp_path, **task))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.communicate()


def test_its_worker_trains_a_task_without_loading_django(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(parameters={"epochs": "2"}, deterministic=True)
    assert worker.end() == 0
    assert worker.errors == ""
    journal = worker.journal()
    assert b"train/loss" in journal
    assert b'"outcome":"finished"' in journal.replace(b": ", b":")
    assert b'"gpu_uuids"' in journal
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, trainer.worker, trainer.loop, trainer.recipes.mnist\n"
            "print([name for name in ('django', 'mlxtend', 'sklearn') if name in sys.modules])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"parameters": {"epochs": "0"}}, "epochs"),
        ({"recipe": "digits_"}, "recipe: there is no 'digits_'"),
        ({"recipe": "no.such:Thing"}, "there is no module no.such"),
        ({"device": "cuda:99"}, "use --device"),
        ({"checkpoint": {"path": "/nowhere/step-1", "sha256": "0"}}, "step-1 is not on this host"),
    ],
)
def test_its_worker_refuses_a_task_with_a_sentence(
    start_worker: Callable[..., Worker], task: dict[str, Any], sentence: str
) -> None:
    worker = start_worker(**task)
    assert worker.end() == 2
    assert sentence in worker.errors
    assert "Traceback" not in worker.errors
    assert sentence.encode() in worker.journal()


def test_its_worker_stops_on_sigterm_with_a_checkpoint(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(parameters={"epochs": "100000", "save_every": "100000"})
    while b"train/loss" not in worker.journal():
        assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    journal = worker.journal().replace(b": ", b":")
    assert b'"outcome":"stopped"' in journal
    assert b'"name":"stop"' in journal


def test_a_signal_to_the_whole_group_stops_the_training_and_not_its_loader_processes(
    start_worker: Callable[..., Worker],
) -> None:
    """As a terminal, torchrun or Slurm sends it: a loader that died of it would end the step with an exception."""
    parameters = {"epochs": "100000", "save_every": "100000", "loader_workers": "2"}
    worker = start_worker(recipe="tests.steered:Steerable", parameters=parameters)
    while b"train/loss" not in worker.journal():
        assert worker.process.poll() is None
    loaders = psutil.Process(worker.process.pid).children()
    os.killpg(worker.process.pid, signal.SIGUSR1)
    while b'"name":"signal"' not in worker.journal().replace(b": ", b":"):
        assert worker.process.poll() is None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(worker.process.pid, number)
    assert worker.end() == 0, worker.errors
    assert worker.errors == ""
    journal = worker.journal().replace(b": ", b":")
    assert b'"outcome":"stopped"' in journal and b'"name":"stop"' in journal
    assert not [each for each in loaders if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_it_makes_the_same_digits_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COXSWAIN_DATA", str(tmp_path))
    batches = []
    for workers in (0, 2):
        recipe = load_recipe("mnist")({"loader_workers": workers, "batch_size": 500}, device=CPU, seed=3)
        recipe.build()
        before = torch.get_rng_state()
        batches.append(list(recipe.train_batches(2, 3)))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(batches[0]) == len(batches[1]) == 5
    for own, loaded in zip(*batches, strict=True):
        assert torch.equal(own[0], loaded[0]) and torch.equal(own[1], loaded[1])
