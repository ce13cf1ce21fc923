"""Every metric of `/metrics`: name, type, labels and help text. docs/metrics.md lists the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OF_RUN = ("run", "project")
OF_GPU = (*OF_RUN, "gpu")


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of a metric. The name of a counter ends with `_total`, as in the response."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


FAMILIES = (
    Family("steersman_run_info", "gauge", (*OF_RUN, "name", "recipe"), "A live or lost run; always 1."),
    Family("steersman_run_state", "gauge", (*OF_RUN, "state"), "Current state of the run, as a label; always 1."),
    Family("steersman_run_series_value", "gauge", (*OF_RUN, "series"), "Last value of a series, in the series' unit."),
    Family("steersman_run_epoch_value", "gauge", (*OF_RUN, "metric"), "Value at the end of the last epoch."),
    Family("steersman_run_best_value", "gauge", (*OF_RUN, "metric"), "Best value of the metric that ranks the epochs."),
    Family("steersman_run_epoch", "gauge", OF_RUN, "Current epoch of the run."),
    Family("steersman_run_step", "gauge", OF_RUN, "Current step; it may go back when the run resumes."),
    Family("steersman_run_planned_epochs", "gauge", OF_RUN, "Epochs after which the run ends, if it declared them."),
    Family("steersman_run_planned_steps", "gauge", OF_RUN, "Steps after which the run ends, if it declared them."),
    Family("steersman_run_steps_per_second", "gauge", OF_RUN, "Steps per second, from the time of a usual step."),
    Family("steersman_run_attempt", "gauge", OF_RUN, "Number of the current attempt."),
    Family("steersman_run_stalled", "gauge", OF_RUN, "1 if heartbeats arrive but no steps, otherwise 0."),
    Family(
        "steersman_run_heartbeat_age_seconds",
        "gauge",
        OF_RUN,
        "Time since the supervisor's last heartbeat; absent while none can be stored.",
    ),
    Family("steersman_run_point_age_seconds", "gauge", OF_RUN, "Time since the last logged point."),
    Family("steersman_run_gpu_utilization_ratio", "gauge", OF_GPU, "Fraction of the time in which a kernel ran."),
    Family("steersman_run_gpu_memory_used_bytes", "gauge", OF_GPU, "Used memory of the GPU."),
    Family("steersman_run_gpu_memory_size_bytes", "gauge", OF_GPU, "Total memory of the GPU."),
    Family("steersman_run_gpu_temperature_celsius", "gauge", OF_GPU, "Temperature of the GPU."),
    Family("steersman_run_gpu_power_watts", "gauge", OF_GPU, "Power that the GPU draws."),
    Family("steersman_run_events_total", "counter", OF_RUN, "Stored events of the run."),
    Family("steersman_run_interventions_total", "counter", OF_RUN, "Commands that took effect in the run."),
    Family("steersman_run_alerts_total", "counter", OF_RUN, "Alerts of the run, including cleared ones."),
    Family("steersman_run_open_alerts", "gauge", OF_RUN, "Alerts of the run that are not cleared."),
    Family("steersman_run_journal_backlog_bytes", "gauge", OF_RUN, "Bytes of the journal not stored yet."),
    Family("steersman_run_transaction_seconds", "summary", OF_RUN, "Duration of the supervisor's transactions."),
    Family("steersman_run_announcements_dropped_total", "counter", OF_RUN, "Announcements that failed to be sent."),
    Family("steersman_runs", "gauge", ("state",), "Runs by state, except archived ones."),
    Family("steersman_runs_left_out", "gauge", (), "Live and lost runs above the limit, not included."),
    Family("steersman_series_left_out", "gauge", (), "Selected series above the limit, not included."),
    Family("steersman_commands", "gauge", ("state",), "The newest 100,000 commands, by state."),
    Family("steersman_alerts", "gauge", ("state", "severity"), "The newest 100,000 alerts, by state."),
    Family("steersman_deliveries", "gauge", ("state",), "The newest 100,000 messages of alerts, by state."),
    Family("steersman_portal_viewers", "gauge", (), "Viewers of runs, in all web processes."),
    Family("steersman_portal_sockets", "gauge", (), "Open sockets, including unauthenticated ones."),
    Family("steersman_portal_watched_runs", "gauge", (), "Runs with viewers, counted in each web process."),
    Family("steersman_portal_queued_frames", "gauge", (), "Frames queued for slow viewers."),
    Family("steersman_portal_queued_bytes", "gauge", (), "Bytes queued for slow viewers."),
    Family("steersman_portal_degraded_processes", "gauge", (), "Web processes that only poll the database."),
    Family("steersman_portal_events_total", "counter", (), "Events that web processes sent to viewers."),
    Family(
        "steersman_portal_skipped_events_total",
        "counter",
        (),
        "Events that were not sent: viewers read them from the history.",
    ),
    Family("steersman_portal_returns_total", "counter", ("outcome",), "Viewers that reconnected, by outcome."),
    Family("steersman_portal_dropped_frames_total", "counter", (), "Frames dropped because a viewer was too slow."),
    Family("steersman_portal_closes_total", "counter", ("code",), "Closed sockets, by close code."),
    Family(
        "steersman_portal_announce_to_socket_seconds",
        "histogram",
        (),
        "Time from the announcement of an event until it is sent.",
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}
