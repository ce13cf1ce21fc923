"""One run with trainings that are recorded step by step as in production.

The training is the real client in this process; its journal is read and stored as by a supervisor, and the real
functions change states. Only processes, sockets and clocks are missing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from runs.access.roles import Viewer
from runs.api.history import history
from runs.live.greeting import read_snapshot
from runs.models import Project, Recipe, Run, StoredEvent
from runs.protocol.messages import Watchers
from runs.recording import alerts, queue
from runs.recording.lifecycle import (
    Holder,
    Lease,
    open_attempt,
)
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.stall_report import StallReport
from steersman.agent.reporting.ticks import Tick
from steersman.files.checkpoint import MANIFEST
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.messages.reports import Line
from steersman.run import Run as Client
from steersman.run import worker_lock_path
from tests.support.stored_points import float32

OPERATOR = Viewer(user_id=None, name="Ada", role="operator")
ALONE = Watchers(count=1, guests=0, names=["Ada"])


@dataclass
class Training:
    """One attempt: the client that trains, and the parts that follow it."""

    lease: Lease
    folder: Path
    client: Client
    journals: Journals
    ingest: Reporter
    mailbox: Mailbox
    stall: StallReport
    step: int = 0
    clock: float = 1000.0
    saved: int = 0


@dataclass
class RecordedTrainings:
    """A run whose trainings log. Each method is one event of its story; `cut` records what a page would load then."""

    folder: Path
    chance: random.Random
    name: str = "digits"
    restarts: int = 2
    pk: int = 0
    training: Training | None = None
    # What a page loaded at each of these moments receives: {"seq", "hello", "history"}.
    cuts: list[dict[str, Any]] = field(default_factory=list)
    # Events whose points were moved to chunks; viewers received them all the same.
    folded: dict[int, str] = field(default_factory=dict)
    # Files and locks of the story's trainings, which a real training would release when its process ends.
    opened: list[Callable[[], object]] = field(default_factory=list)
    # Decides whether the step starts again.
    falls_back: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        project, _ = Project.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
        recipe, _ = Recipe.objects.get_or_create(spec="digits", defaults={"title": "Digits"})
        run = Run.objects.create(project=project, recipe=recipe, name=self.name, restarts=self.restarts)
        self.pk = run.pk

    @property
    def row(self) -> Run:
        return Run.objects.select_related("project", "recipe").get(pk=self.pk)

    @property
    def state(self) -> str:
        return str(self.row.state)

    def close(self) -> None:
        """Close the files of its trainings: nothing more is logged."""
        while self.opened:
            self.opened.pop()()

    # What a page receives

    def loaded(self) -> dict[str, Any]:
        """Return what a page that is loaded now receives, in serialized form."""
        past = json.loads(json.dumps(history(self.row, "operator"), cls=DjangoJSONEncoder, allow_nan=False))
        snapshot = read_snapshot(self.pk, for_guests=False)
        hello = snapshot.hello(OPERATOR, replays=False, life="alive", link="live", watchers=ALONE)
        assert past["seq"] == snapshot.seq
        return {"seq": past["seq"], "hello": json.loads(hello), "history": past}

    def cut(self) -> None:
        self.cuts.append(self.loaded())

    def frames(self) -> list[dict[str, Any]]:
        """Return all events of the run as they were sent, in order."""
        return [json.loads(frame) for _, frame in self.texts()]

    def texts(self) -> list[tuple[int, str]]:
        """Return number and text of all events of the run, in order."""
        kept = dict(StoredEvent.objects.filter(run_id=self.pk).values_list("seq", "frame"))
        return sorted((self.folded | kept).items())

    # The training

    def start(self) -> None:
        """Open the next attempt; it resumes from the newest checkpoint if one exists."""
        row = self.row
        checkpoint = row.checkpoints.order_by("-created_at").first()
        restart = queue.waits_to_restart(row)
        lease = open_attempt(
            self.pk,
            Holder("gpu-host", "boot", 1),
            row.attempt,
            command_line=[],
            resumed_from=checkpoint,
            restart=restart,
        )
        folder = self.folder / str(self.pk) / str(lease.number)
        folder.mkdir(parents=True)
        lock = try_lock(worker_lock_path(folder, 0))
        assert lock is not None
        client = Client(folder, 0, lock)
        self.opened += (lock.release, client._journal.close)
        ingest = self._ingest(lease, folder)
        attached = ingest.attach()
        self.training = Training(
            lease=lease,
            folder=folder,
            client=client,
            journals=Journals(folder, attached.positions, attached.last_steps),
            ingest=ingest,
            mailbox=Mailbox(folder),
            stall=StallReport(attached, settings.STEERSMAN_STALLED_S),
            step=checkpoint.step if checkpoint else 0,
        )
        client.begin_at(self.training.step, 0)
        client.on("evaluate", lambda _: None)
        client.on("extend", lambda arguments: None)
        client.on("save_checkpoint", lambda arguments: self._save(arguments["name"], "named"))
        client.knob("learning_rate", 0.1, minimum=0.001, maximum=1.0)

    def _ingest(self, lease: Lease, folder: Path) -> Reporter:
        return Reporter(RecordSide(lease), folder, Redactor(self.folder, self.folder, {}), StoredProgress())

    @property
    def now(self) -> Training:
        assert self.training is not None
        return self.training

    # What a training logs

    def plan(self) -> None:
        self.now.client.plan(total_epochs=4, total_steps=400, steps_per_epoch=100)
        self.store()

    def log_points(self, count: int = 7) -> None:
        """Log steps as trainings do: with gaps, unusual values, sometimes one twice, or from the start again."""
        training, chance = self.now, self.chance
        as_logged = chance.choice((float, float32))
        for _ in range(count):
            training.step += chance.choice((1, 1, 1, 0, 3))
            if self.falls_back.random() < 0.02:
                training.step = self.falls_back.randrange(training.step + 1)
            finite = as_logged(chance.random())
            value = chance.choice((finite, finite, float("nan"), float("inf"), -float("inf")))
            training.client.log(training.step, **{"train/loss": value, "train/accuracy": float32(chance.random())})
            if chance.random() < 0.3:
                training.client.log(training.step, loss=chance.random())
        self.store()

    def log_epoch(self) -> None:
        training = self.now
        value = self.chance.choice((0.5, 0.25, float("nan")))
        number = max(1, training.step // 10)
        best = self.chance.random() < 0.5
        training.client.log_epoch(
            number, step=training.step, duration_s=1.5, best=best, validation_loss=value, top5=self.chance.random()
        )
        self.store()

    def note(self) -> None:
        self.now.client.note("Half of it is done.", level="info")
        self.store()

    def log_text(self) -> None:
        self.now.client.log_text("sample", "To be, or not to be", step=self.now.step)
        self.store()

    def record_environment(self) -> None:
        self.now.client.record_environment({"python": "3.12", "attempt": self.now.lease.number})
        self.store()

    def save_checkpoint(self) -> None:
        """Save a checkpoint, and remove an older one as the retention rule would."""
        self._save(f"step-{self.now.step}-{self.now.saved}", "last")
        self.store()

    def _save(self, name: str, reason: str) -> None:
        training = self.now
        training.saved += 1
        kept = training.folder / "checkpoints"
        if self.chance.random() < 0.5:
            for manifest in sorted(kept.glob(f"*/{MANIFEST}"))[:1]:
                manifest.unlink()
        path = kept / f"{training.saved:04d}"
        path.mkdir(parents=True)
        (path / MANIFEST).write_text("{}")
        training.client.record_checkpoint(
            path, step=training.step, epoch=1, name=name, size_bytes=10,
            sha256=f"{training.lease.attempt_id:032x}{training.saved:032x}", reason=reason,
            metrics={"validation_loss": 0.5},
        )  # fmt: skip

    def print_lines(self) -> None:
        """Print console output with a skipped part, with or without a progress bar, and a line from Steersman."""
        skipped = self.chance.choice((0, 4096))
        unfinished = self.chance.choice((None, [], [f"{self.chance.randrange(100)}%"]))
        line = Line("GPU 0 is throttled.", "warning")
        self.store(Tick(console=ConsolesRead(["epoch 1", "epoch 2"], skipped, {}, unfinished), lines=[line]))

    def draw_bar(self) -> None:
        """Print only an unfinished line."""
        self.store(Tick(console=ConsolesRead([], 0, {}, [" 10%|█         |"])))

    def sample_system(self) -> None:
        self.store(Tick(system={"gpu/0/utilisation": self.chance.random() * 100, "host/cpu": None}))

    def stall(self) -> None:
        """Report nothing for far longer than usual, unless the training is stalled already."""
        self.store()
        tick = Tick()
        is_stalled = self.row.stalled_since is not None
        while not (tick.stall or is_stalled):
            self.now.clock += 2.0
            self.now.stall.put(tick, self.now.clock)
        self.store(tick)

    def begin_alert(self) -> None:
        """Let a detector raise an alert; its value may be of any kind."""
        value, nonfinite = self.chance.choice(((12.5, ""), (None, "nan")))
        finding = alerts.Finding(
            detector="spike", severity="warning", title="Spike", series="train/loss", step=self.now.step, value=value,
            nonfinite=nonfinite, usual="0.31 ± 0.02", began_at=datetime(2026, 1, 2, tzinfo=UTC),
        )  # fmt: skip
        assert alerts.begin(self.pk, self.now.lease.number, finding) is not None

    def raise_alert(self) -> None:
        """Let the training's code raise an alert."""
        self.now.client.alert("Odd data", "A label is missing.", level="info")
        self.store()

    def clear_alert(self) -> None:
        lasting = self.row.alerts.filter(state__in=alerts.LASTING).first()
        if lasting is not None:
            assert alerts.clear(self.pk, self.now.lease.number, lasting.pk, self.now.step)

    def acknowledge_alert(self) -> None:
        opened = self.row.alerts.filter(state="open").first()
        if opened is not None:
            assert alerts.acknowledge(self.pk, opened.pk, None, "Ada")

    def store(self, tick: Tick | None = None) -> None:
        """Store the contents of the journal, as the supervisor does in each tick."""
        training = self.now
        tick = tick or Tick()
        tick.read = training.journals.read()
        if tick.read is not None:
            training.stall.watch.note(tick.read.records)
        if tick.stall is None:
            training.stall.put(tick, training.clock)
        training.ingest.store(tick)
        training.stall.settle(tick)
        if tick.read is not None:
            training.journals.advance(tick.read)
