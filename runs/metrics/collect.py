"""The metrics of `/metrics`, read from the database in a constant number of queries."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db.models import Count, Model, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from runs.metrics import portal_tally
from runs.metrics.families import BY_NAME, FAMILIES
from runs.models import (
    Alert,
    AlertDelivery,
    AlertState,
    Command,
    CommandState,
    EpochMetric,
    Run,
    RunState,
    Series,
)
from runs.protocol.reports import LATENCY_BOUNDS_S, PortalCounts, PortalLevels, SupervisorReport
from runs.protocol.states import LIVE, LOST
from runs.recording.liveness import heartbeat_age_s

# The maximum number of runs, and of their series, in a response: Prometheus stores a time series for each.
MOST_RUNS = 200
MOST_SERIES_OF_A_RUN = 50
MOST_SERIES = 4_000
# A run that is lost for longer will hardly recover.
LOST_SHOWN_FOR = timedelta(days=1)
# Counting a whole large table would take longer and longer as an installation ages.
NEWEST_COUNTED = 100_000
USUAL_WORDS = ("loss", "accuracy", "acc", "learning_rate", "lr", "grad_norm", "gradient_norm")
USUAL = re.compile(rf"(^|[/._-])({'|'.join(USUAL_WORDS)})$", re.IGNORECASE)
GPU = re.compile(r"^gpu/(\d+)/(\w+)$")
MIB = 1 << 20
# By the end of a sampled series' name: the metric, and the factor for its values.
GPU_METRICS = {
    "utilisation": ("steersman_run_gpu_utilization_ratio", 0.01),
    "memory_used_mib": ("steersman_run_gpu_memory_used_bytes", MIB),
    "memory_total_mib": ("steersman_run_gpu_memory_size_bytes", MIB),
    "temperature_c": ("steersman_run_gpu_temperature_celsius", 1),
    "power_w": ("steersman_run_gpu_power_watts", 1),
}
NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Shown:
    """The scope of an answer: all projects, one project, or one of its runs."""

    project_id: int | None = None
    run_id: int | None = None

    def of(self, prefix: str = "") -> Q:
        """Return the condition on rows whose run is reached through `prefix`."""
        found = Q() if self.project_id is None else Q(**{f"{prefix}project_id": self.project_id})
        return found if self.run_id is None else found & Q(**{f"{prefix}pk": self.run_id})


@dataclass(slots=True)
class _Samples:
    """Collects the samples of metrics; metrics without a sample are left out."""

    metrics: dict[str, Metric] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        if name not in self.metrics:
            family = BY_NAME[name]
            make = {
                "gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "summary": SummaryMetricFamily,
                "histogram": HistogramMetricFamily,
            }[family.kind]  # fmt: skip
            self.metrics[name] = make(name, family.help, labels=list(family.labels))
        return self.metrics[name]

    def add(self, name: str, value: float | None, *labels: str) -> None:
        if value is not None:
            self.get(name).add_metric(labels, value)


class Collected:
    """A collector for prometheus-client that returns values which were read once."""

    def __init__(self, samples: _Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            if family.name in self._samples.metrics:
                yield self._samples.metrics[family.name]


def collect(shown: Shown) -> Collected:
    """Read everything that `shown` allows. Raises `django.db.Error` if the database is unavailable."""
    samples = _Samples()
    now = timezone.now()
    live = Q(state__in=LIVE) | Q(state__in=LOST, heartbeat_at__gte=now - LOST_SHOWN_FOR)
    chosen = Run.objects.filter(live, shown.of(), archived_at=None).order_by("-pk")
    runs = list(chosen.select_related("project", "recipe").defer("parameters", "knobs", "review_note")[:MOST_RUNS])
    left_out = chosen.count() - len(runs) if len(runs) == MOST_RUNS else 0
    samples.add("steersman_runs_left_out", max(0, left_out))
    for run in runs:
        _add_run(samples, run, now)
    by_id = {run.pk: run for run in runs}
    _add_series(samples, by_id)
    _add_epochs(samples, by_id)
    _add_counts_of_runs(samples, by_id)
    _add_counts(samples, shown)
    portal_tally.sum_up()
    _add_portal(samples, *portal_tally.read())
    return Collected(samples)


def _of(run: Run) -> tuple[str, str]:
    return str(run.pk), run.project.slug


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())


def _add_run(samples: _Samples, run: Run, now: datetime) -> None:
    labels = _of(run)
    samples.add("steersman_run_info", 1, *labels, run.name, run.recipe.spec if run.recipe else "")
    samples.add("steersman_run_state", 1, *labels, run.state)
    if run.best_metric is not None:
        samples.add("steersman_run_best_value", run.best_metric, *labels, run.best_metric_name)
    samples.add("steersman_run_epoch", run.epoch, *labels)
    samples.add("steersman_run_step", run.step, *labels)
    samples.add("steersman_run_planned_epochs", run.total_epochs, *labels)
    samples.add("steersman_run_planned_steps", run.total_steps, *labels)
    samples.add("steersman_run_steps_per_second", 1 / run.usual_step_s if run.usual_step_s else None, *labels)
    samples.add("steersman_run_attempt", run.attempt, *labels)
    samples.add("steersman_run_stalled", int(run.stalled_since is not None), *labels)
    samples.add("steersman_run_heartbeat_age_seconds", heartbeat_age_s(run, now), *labels)
    samples.add("steersman_run_point_age_seconds", _age(run.last_point_at, now), *labels)
    samples.add("steersman_run_events_total", run.last_seq, *labels)
    if run.supervisor_report is not None:
        told = msgspec.convert(run.supervisor_report, SupervisorReport)
        samples.add("steersman_run_journal_backlog_bytes", told.journal_backlog_bytes, *labels)
        samples.get("steersman_run_transaction_seconds").add_metric(
            labels, count_value=told.transactions, sum_value=told.transaction_s
        )
        samples.add("steersman_run_announcements_dropped_total", told.announcements_dropped, *labels)


def is_chosen(name: str, marks: Iterable[str]) -> bool:
    """Return whether a series is exported to Prometheus: a usual one, or one that its project has marked."""
    return USUAL.search(name) is not None or any(
        name.startswith(mark[:-1]) if mark.endswith("*") else name == mark for mark in marks
    )


def _add_series(samples: _Samples, runs: dict[int, Run]) -> None:
    marks = {run.project_id: run.project.marked_series for run in runs.values()}
    wanted = Q(name__startswith="gpu/")
    for word in USUAL_WORDS:
        wanted |= Q(name__iendswith=word)
    for mark in {mark for of_project in marks.values() for mark in of_project}:
        wanted |= Q(name__startswith=mark[:-1]) if mark.endswith("*") else Q(name=mark)
    rows = Series.objects.filter(wanted, run__in=list(runs)).order_by("-run_id", "name")
    told: defaultdict[int, int] = defaultdict(int)
    in_all = left_out = 0
    values = rows.values_list("run_id", "name", "last_value", "last_nonfinite")
    for run_id, name, value, nonfinite in values.iterator(chunk_size=2_000):
        run = runs[run_id]
        number = value if value is not None else NONFINITE.get(nonfinite)
        if number is None:
            continue
        if (gpu := GPU.match(name)) and gpu[2] in GPU_METRICS:
            metric, factor = GPU_METRICS[gpu[2]]
            samples.add(metric, number * factor, *_of(run), gpu[1])
        if not is_chosen(name, marks[run.project_id]):
            continue
        if told[run_id] >= MOST_SERIES_OF_A_RUN or in_all >= MOST_SERIES:
            left_out += 1
            continue
        told[run_id] += 1
        in_all += 1
        samples.add("steersman_run_series_value", number, *_of(run), name)
    samples.add("steersman_series_left_out", left_out)


def _add_epochs(samples: _Samples, runs: dict[int, Run]) -> None:
    newest = EpochMetric.objects.filter(run=OuterRef("pk")).order_by("-epoch", "-attempt", "-order").values("pk")[:1]
    ids = Run.objects.filter(pk__in=list(runs)).values(newest=Subquery(newest))
    for epoch in EpochMetric.objects.filter(pk__in=ids):
        for name in EpochMetric.COLUMNS:
            samples.add("steersman_run_epoch_value", getattr(epoch, name), *_of(runs[epoch.run_id]), name)


def _add_counts_of_runs(samples: _Samples, runs: dict[int, Run]) -> None:
    def counted(rows: QuerySet[Any], **total: Count) -> dict[int, tuple[int, ...]]:
        found = rows.filter(run__in=list(runs)).order_by().values("run_id").annotate(**total)
        return {row["run_id"]: tuple(row[name] for name in total) for row in found}

    applied = counted(Command.objects.filter(state=CommandState.APPLIED), total=Count("pk"))
    alerts = counted(Alert.objects.all(), total=Count("pk"), lasting=Count("pk", ~Q(state=AlertState.CLEARED)))
    for run_id, run in runs.items():
        total, lasting = alerts.get(run_id, (0, 0))
        samples.add("steersman_run_interventions_total", applied.get(run_id, (0,))[0], *_of(run))
        samples.add("steersman_run_alerts_total", total, *_of(run))
        samples.add("steersman_run_open_alerts", lasting, *_of(run))


def _add_counts(samples: _Samples, shown: Shown) -> None:
    states = Run.objects.filter(shown.of(), archived_at=None).order_by().values_list("state").annotate(Count("pk"))
    found = dict(states)
    for state in RunState.values:
        samples.add("steersman_runs", found.get(state, 0), state)
    for name, model, prefix, fields in (
        ("steersman_commands", Command, "run__", ("state",)),
        ("steersman_alerts", Alert, "run__", ("state", "severity")),
        ("steersman_deliveries", AlertDelivery, "alert__run__", ("state",)),
    ):
        for *labels, number in _newest(model, shown.of(prefix), fields):
            samples.add(name, number, *labels)


def _newest(model: type[Model], condition: Q, fields: tuple[str, ...]) -> list[tuple[Any, ...]]:
    rows: QuerySet[Any] = model._default_manager.filter(condition)
    newest = rows.order_by("-pk").values("pk")[:NEWEST_COUNTED]
    counted: QuerySet[Any] = model._default_manager.filter(pk__in=newest).order_by(*fields)
    return list(counted.values_list(*fields).annotate(Count("pk")))


def _add_portal(samples: _Samples, counts: PortalCounts, levels: PortalLevels) -> None:
    samples.add("steersman_portal_viewers", levels.viewers)
    samples.add("steersman_portal_sockets", levels.sockets)
    samples.add("steersman_portal_watched_runs", levels.watched_runs)
    samples.add("steersman_portal_queued_frames", levels.queued_frames)
    samples.add("steersman_portal_queued_bytes", levels.queued_bytes)
    samples.add("steersman_portal_degraded_processes", levels.degraded)
    samples.add("steersman_portal_events_total", counts.events)
    samples.add("steersman_portal_skipped_events_total", counts.skipped_events)
    samples.add("steersman_portal_returns_total", counts.replays, "replay")
    samples.add("steersman_portal_returns_total", counts.resyncs, "resync")
    samples.add("steersman_portal_dropped_frames_total", counts.dropped_frames)
    for code, number in sorted(counts.closes.items()):
        samples.add("steersman_portal_closes_total", number, code)
    total, buckets = 0, []
    for bound, number in zip([*map(str, LATENCY_BOUNDS_S), "+Inf"], counts.latencies, strict=False):
        total += number
        buckets.append((bound, total))
    samples.get("steersman_portal_announce_to_socket_seconds").add_metric([], buckets, sum_value=counts.latency_s)
