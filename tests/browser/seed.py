"""A project with something on every page, created inside a stack by `manage.py shell`; `seed` prints its ids."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from datetime import time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from runs.access.membership import invite
from runs.access.tokens import create_token
from runs.agents.offers import request_run
from runs.alerts.sending import links
from runs.alerts.sending.secrets import seal
from runs.branching.opening import open_branch
from runs.branching.requests import Author, BranchRequest
from runs.curation.tags import change_tags
from runs.models import (
    Agent,
    Alert,
    AlertDelivery,
    AlertDestination,
    AlertState,
    Attempt,
    Checkpoint,
    Command,
    EpochMetric,
    Host,
    MailAccount,
    Membership,
    Project,
    Recipe,
    Role,
    Run,
    RunState,
    TokenScope,
    alert_as_wire,
)
from runs.protocol.events import (
    AlertChanged,
    Block,
    EpochDone,
    Event,
    LogLine,
    LogWritten,
    Metrics,
    SystemSampled,
    TextLogged,
)
from runs.recording import feed
from runs.recording.queue import After, enqueue
from runs.recording.status import status_of
from runs.series import storage
from steersman.files.checkpoint import Manifest, write_hashed, write_manifest
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.support.stored_points import metrics_event, status_event

STEPS = 3000
STEPS_PER_EPOCH = 300
INTERVAL_S = 0.1
LONG = "όνομα_" * 10


def seed() -> None:
    project = Project.objects.create(
        name="Pages", slug="pages", description=f"# {LONG}\n\n**[{LONG}](/)**\n\n| {LONG} |\n|---|\n| `{LONG}` |",
        goal_metric="last:train/loss",
    )  # fmt: skip
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.get(username=role), role=role)
    live = make_run(project, "live", RunState.RUNNING, rate=0.001)
    ended = make_run(project, "ended", RunState.FAILED, rate=0.002)
    owner = User.objects.get(username="owner")
    change_tags(live.pk, ["όνομα", "όνομα " * 5 + "όνομα"])
    create_token(owner, project, TokenScope.VIEW, name="notebook", expires_at=timezone.now() + timedelta(days=9))
    _, shared = create_token(owner, project, TokenScope.SHARE, name="link", run=live)
    Host.objects.create(name="gpu-host", heartbeat_at=timezone.now())
    places = {
        "live": live.pk,
        "ended": ended.pk,
        "again": make_run_of_two_attempts(project).pk,
        "full": make_full_run(project).pk,
        "bare": Run.objects.create(project=project, name="bare").pk,
        "share": shared,
        "invite": invite(project, Role.VIEWER, owner),
        **_branch(ended),
        **_tell_of_alerts(live, owner),
        **_request_on_agent(project, owner),
    }
    _queue(project, ended)
    print(json.dumps(places))


def _queue(project: Project, failed: Run) -> None:
    """Create two waiting runs: one for another program on a GPU, one for a run that has failed."""
    gpu = {
        "device": "cuda:0", "title": "GPU", "uuid": "GPU-a", "memory_used_mib": 62_000, "memory_total_mib": 81_920,
        "others_mib": 62_000, "allowed_mib": 8192, "free_mib": 19_920, "usual_mib": 73_728,
    }  # fmt: skip
    Host.objects.filter(name="gpu-host").update(devices=[gpu])
    fields: dict[str, Any] = {"project": project, "recipe": Recipe.objects.first(), "name": "bare"}
    enqueue(Run.objects.create(**fields, device="cuda").pk, "gpu-host", priority=-1)
    enqueue(Run.objects.create(**fields).pk, after=After(failed.pk))


def _request_on_agent(project: Project, owner: User) -> dict[str, Any]:
    """Let an agent offer a command, and request a run that it cannot start now; return both by name."""
    rate = {"name": "rate", "kind": "float", "minimum": 0.0, "maximum": 1.0, "default": 0.1}
    agent = Agent.objects.create(
        project=project, created_by=owner, name="gpu", session="s", host="gpu", slots=2,
        heartbeat_at=timezone.now() - timedelta(hours=1),
        commands=[{"name": "resnet", "title": "digits", "slots": 1, "parameters": [rate]}],
    )  # fmt: skip
    run = request_run(agent, "resnet", {"rate": 0.5}, user=owner, name="bare")
    # It appears in no list.
    Run.objects.filter(pk=run.pk).update(archived_at=timezone.now())
    return {"agent": agent.pk, "asked": run.pk}


def _branch(run: Run) -> dict[str, Any]:
    """Give a checkpoint of a run its files, and branch from it; return both by name."""
    origin = run.checkpoints.get(reason=Checkpoint.Reason.NAMED)
    folder = Path(settings.STEERSMAN_DATA) / "runs" / str(run.pk) / origin.path
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {"model.pt": write_hashed(folder / "model.pt", lambda file: file.write(b"weights"))}
    knobs = {"learning_rate": {"": 0.003}}
    origin.sha256 = write_manifest(folder, Manifest(origin.step, 8, origin.name, "named", files, knobs=knobs)).sha256
    origin.save(update_fields=["sha256"])
    asked = BranchRequest(checkpoint=str(origin.pk), name="again", knobs={"learning_rate": 0.001})
    branch, _ = open_branch(run, asked, Author("Ολγα"))
    # It appears in no list.
    Run.objects.filter(pk=branch.pk).update(archived_at=timezone.now())
    return {"origin": origin.pk, "branch": branch.pk}


def _tell_of_alerts(run: Run, owner: User) -> dict[str, Any]:
    """Create the data for the pages of destinations, and a link of a message; return their ids."""
    MailAccount.objects.create(project=run.project, host="smtp.qq.com", user="1@qq.com", secret=seal("code"))
    operator = User.objects.get(username="operator")
    fields: dict[str, Any] = {"project": run.project, "created_by": owner, "changed_by": owner}
    mail = AlertDestination.objects.create(
        **fields, name="gpu", hint="g…@example.org", secret=seal("gpu@example.org"), person=operator,
        tells_cleared=True, quiet_from=time(22), quiet_until=time(7), quiet_zone="UTC", digest_minutes=10,
    )  # fmt: skip
    group = AlertDestination.objects.create(
        **fields,
        name="host",
        kind="dingtalk",
        hint="dingtalk://…c3d4",
        secret=seal("dingtalk://a1b2c3d4/"),
        is_on=False,
    )
    alert = run.alerts.filter(severity="critical").get()
    for destination, state, error in ((mail, "sent", ""), (group, "failed", "310000")):
        AlertDelivery.objects.create(
            alert=alert, destination=destination, state=state, error=error, tries=2, due_at=timezone.now()
        )
    link = partial(links.action_link, "", alert.pk)
    return {
        "destination": mail.pk,
        "pause_link": link("pause", operator.pk, mail.pk, timedelta(days=1)),
        "late_link": link("stop", operator.pk, mail.pk, timedelta(days=-1)),
    }


def make_run(project: Project, name: str, state: str, rate: float) -> Run:
    """Create a run whose loss falls by `rate` per step, with a NaN, epochs, texts, console and machine samples."""
    now = timezone.now()
    run = Run.objects.create(
        project=project,
        recipe=Recipe.objects.first(),
        created_by=User.objects.get(username="operator"),
        name=name,
        state=state,
        attempt=1,
        parameters={"rate": rate, "width": 64},
        step=STEPS,
        epoch=STEPS // STEPS_PER_EPOCH,
        total_steps=2 * STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        total_epochs=2 * STEPS // STEPS_PER_EPOCH,
        started_at=now - timedelta(seconds=STEPS * INTERVAL_S),
        ended_at=None if state == RunState.RUNNING else now,
        trained_s=0.0 if state == RunState.RUNNING else STEPS * INTERVAL_S,
        training_since=now - timedelta(seconds=STEPS * INTERVAL_S) if state == RunState.RUNNING else None,
        reason="" if state == RunState.RUNNING else "the loss is no finite number",
        heartbeat_at=now,
    )
    events = [*_events(now.timestamp() - STEPS * INTERVAL_S, rate), status_of(run)]
    feed.append(run.pk, *events)
    _steer(run)
    _alert(run, "warning", "spike", AlertState.CLEARED, step=900)
    if state == RunState.RUNNING:
        _alert(run, "info", "plateau", AlertState.OPEN, step=2000)
        _alert(run, "critical", "non-finite", AlertState.OPEN, step=1500)
    storage.update_latest(run.pk, [event for event in events if isinstance(event, Metrics | SystemSampled)])
    for event in events:
        if isinstance(event, EpochDone):
            EpochMetric.objects.create(
                run=run, attempt=1, epoch=event.epoch, step=event.step, best=event.best, at=now, **event.values
            )
    return run


def make_full_run(project: Project) -> Run:
    """Create a paused run with many long values: parameters, console, names, a note of its review."""
    run = make_run(project, f"γεμάτο {LONG}", RunState.RUNNING, rate=0.001)
    now = timezone.now()
    fields: dict[str, Any] = {
        "state": RunState.PAUSED, "is_paused": True, "trained_s": 300.0, "training_since": None,
        "parameters": {f"blocks.{place}.attention.scale": place / 7 for place in range(300)},
        "review_note": f"αβγ\n{LONG * 3}", "reviewed_at": now,
        "reviewed_by": User.objects.get(username="owner"),
    }  # fmt: skip
    Run.objects.filter(pk=run.pk).update(**fields)
    run.attempts.update(environment={f"library.{place}": f"{place}.{LONG}" for place in range(60)})
    run.refresh_from_db()
    times = [now.timestamp() + step for step in range(3)]
    block = Block(steps=[1, 2, 3], times=times, values={f"blocks.{place}/{LONG}": [0.5] * 3 for place in (10, 2)})
    lines = [LogLine(text=f"{place} {LONG * (place % 3)}") for place in range(60)]
    feed.append(run.pk, metrics_event([block]), LogWritten(attempt=1, lines=lines), status_of(run))
    storage.update_latest(run.pk, [metrics_event([block])])
    return run


def make_run_of_two_attempts(project: Project) -> Run:
    """Create a run that was stopped after 400 steps, and trains again from step 101 on; each fold counts from 1."""
    now = timezone.now()
    begun = now - timedelta(hours=5)
    run = Run.objects.create(
        project=project,
        name="again",
        state=RunState.RUNNING,
        attempt=2,
        step=300,
        epoch=3,
        started_at=begun,
        heartbeat_at=now,
        trained_s=600.0,
        training_since=now - timedelta(minutes=5),
    )
    first = {"ended_at": begun + timedelta(minutes=10), "outcome": "stopped", "last_step": 400}
    for number, fields in ((1, first), (2, {"last_step": 300})):
        attempt = Attempt.objects.create(
            run=run, number=number, host="gpu-host", boot_id="", supervisor_pid=1, **fields
        )
        Attempt.objects.filter(pk=attempt.pk).update(started_at=begun if number == 1 else run.training_since)
    steps_of_fold = list(range(1, 51))
    for number, start, steps in ((1, begun, range(1, 401)), (2, run.training_since, range(101, 301))):
        times = [start.timestamp() + index for index in range(len(steps))]
        losses: list[float | None] = [number * math.exp(-step / 200) for step in steps]
        blocks = [Block(steps=list(steps), times=times, values={"train/loss": losses})]
        for fold in range(3 if number == 2 else 0):
            values: list[float | None] = [float(fold)] * 50
            laps = {"fold/loss": fold} if fold else {}
            blocks.append(Block(steps=steps_of_fold, times=times[:50], values={"fold/loss": values}, laps=laps))
        event = metrics_event(blocks, number)
        feed.append(run.pk, event)
        storage.update_latest(run.pk, [event])
        for epoch in range(steps[0] // 100 + 1, steps[-1] // 100 + 1):
            EpochMetric.objects.create(
                run=run, attempt=number, epoch=epoch, step=epoch * 100, at=now, train_loss=losses[-1]
            )
    return run


def _alert(run: Run, severity: str, detector: str, state: str, step: int) -> None:
    """Record an alert that clears ten steps later or not at all."""
    now = timezone.now()
    alert = Alert.objects.create(
        run=run,
        attempt=1,
        detector=detector,
        series="train/loss",
        severity=severity,
        title=detector.title(),
        step=step,
        began_at=now,
        nonfinite="nan",
        usual="0.31 ± 0.02",
        state=state,
        cleared_at=now if state == AlertState.CLEARED else None,
        cleared_step=step + 10 if state == AlertState.CLEARED else None,
    )
    feed.append(run.pk, AlertChanged(**alert_as_wire(alert)))


def _steer(run: Run) -> None:
    """Give the run knobs of every kind, commands in every state, a checkpoint and an attempt."""
    now = timezone.now()
    Attempt.objects.create(
        run=run, number=1, host="gpu-host", boot_id="", supervisor_pid=1, ranks=2, last_step=STEPS, adoptions=1
    )
    run.knobs = [
        knob.to_wire()
        for knob in (
            Knob(ValueSpec("learning_rate", "float", 1e-6, 1.0, scale="log"), 0.001, effective=lambda: 0.0004),
            Knob(
                ValueSpec("weight_decay", "float", 0.0, 0.5, groups=("matrices", "biases")),
                {"matrices": 0.1, "biases": 0.0},
            ),
            Knob(ValueSpec("batches", "int", 1, 64, unit="GiB"), 4),
            Knob(ValueSpec("mirror", "bool"), True),
            Knob(ValueSpec("mode", "choice", choices=("mean", "sum")), "sum"),
            Knob(ValueSpec("text", "str"), "αβγ"),
        )
    ]
    run.stalled_since = now - timedelta(minutes=3)
    run.usual_step_s = INTERVAL_S
    run.restarts, run.restarts_used = 3, 1
    run.save(update_fields=["knobs", "stalled_since", "usual_step_s", "restarts", "restarts_used"])
    knob = {"knob": "learning_rate", "value": 0.001, "factor": None, "group": ""}
    given: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        (
            "set_knob",
            "applied",
            knob,
            {"step": 1200, "old_value": 0.003, "new_value": 0.001, "effective_value": 0.0004},
        ),
        ("note", "applied", {"text": "αβγ"}, {"step": 1210}),
        ("pause", "applied", {}, {"step": 2000, "ranks": 2}),
        ("resume", "applied", {}, {"step": 2000, "ranks": 2}),
        ("save_checkpoint", "applied", {"name": "γ"}, {"step": 2400}),
        ("set_knob", "refused", knob, {"expected_value": 0.01}),
        ("extend", "expired", {"epochs": 3}, {}),
        ("stop", "delivered", {"checkpoint": True}, {"at_step": 5000}),
    ]
    for place, (kind, state, arguments, fields) in enumerate(given):
        sent = now - timedelta(seconds=300 - 30 * place)
        Command.objects.create(
            run=run, kind=kind, arguments=arguments, state=state, author_name="Ολγα", sent_at=sent, attempt=1,
            applied_at=sent if state == "applied" else None, **fields,
        )  # fmt: skip
    Checkpoint.objects.create(
        run=run, attempt=1, step=2400, epoch=8, name="γ", path="attempts/1/checkpoints/γ", size_bytes=5_000_000,
        sha256="12" * 32, reason=Checkpoint.Reason.NAMED, metrics={"validation_loss": 0.3}, created_at=now,
    )  # fmt: skip


def _events(start: float, rate: float) -> Iterable[Event]:
    yield status_event("running")
    for first in range(1, STEPS, 500):
        steps = list(range(first, first + 500))
        losses: list[float | None] = [2 * math.exp(-step * rate) for step in steps]
        losses[100] = None
        values = {"train/loss": losses, "train/accuracy": [1 - math.exp(-step * rate) for step in steps]}
        values["train/margin"] = [1 - 2 * math.exp(-step * rate) for step in steps]
        values["train/margin"][250] = 40.0
        times = [start + step * INTERVAL_S for step in steps]
        yield metrics_event([Block(steps=steps, times=times, values=values, nonfinite={"train/loss": [(100, "nan")]})])
    for epoch in range(1, STEPS // STEPS_PER_EPOCH + 1):
        loss = 2 * math.exp(-epoch * STEPS_PER_EPOCH * rate)
        measures: dict[str, float | None] = {"train_loss": loss, "validation_loss": loss * 1.1}
        yield EpochDone(
            attempt=1, epoch=epoch, step=epoch * STEPS_PER_EPOCH, duration_s=30.0, best=epoch % 3 == 0, values=measures
        )
        yield TextLogged(
            attempt=1, step=epoch * STEPS_PER_EPOCH, epoch=epoch, name="sample", text="<i>A word</i> " * 40
        )
    for second in range(60):
        values = {
            "gpu/0/utilisation": [80.0 + second % 7],
            "gpu/1/utilisation": [60.0 + second % 5],
            "host/cpu": [30.0],
            **{f"host/rank/{rank}/step_ms": [step_ms + second % 3] for rank, step_ms in enumerate((40.0, 100.0))},
            **{f"host/rank/{rank}/cpu": [per_cent + second % 3] for rank, per_cent in enumerate((30.0, 95.0))},
            **{f"host/rank/{rank}/rss_mib": [700.0 + rank] for rank in range(2)},
        }
        sample = {name: column[0] for name, column in values.items()}
        yield SystemSampled(attempt=1, step=second, time=start + second, values=sample)
    lines = [
        LogLine(text="epoch \x1b[1;32m1\x1b[0m"),
        LogLine(text="no space left", source="steersman", level="warning"),
    ]
    yield LogWritten(attempt=1, lines=lines, skipped_bytes=2048)
