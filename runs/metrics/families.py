"""Every metric of `/metrics`: name, type, labels, and what it says. docs/metrics.md lists the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OF_RUN = ("run", "project")
OF_GPU = (*OF_RUN, "gpu")


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as it is declared. The name of a counter ends with `_total`, as it is asked for."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


FAMILIES = (
    Family("steersman_run_info", "gauge", (*OF_RUN, "name", "recipe"), "A live or lost run; always 1."),
    Family("steersman_run_state", "gauge", (*OF_RUN, "state"), "The state in which the run is, as a label; always 1."),
    Family("steersman_run_series_value", "gauge", (*OF_RUN, "series"), "Last value of a series, in the series' unit."),
    Family("steersman_run_epoch_value", "gauge", (*OF_RUN, "metric"), "Value that the last epoch ended with."),
    Family("steersman_run_best_value", "gauge", (*OF_RUN, "metric"), "Best value of the metric the run is judged by."),
    Family("steersman_run_epoch", "gauge", OF_RUN, "Epoch at which the run is."),
    Family("steersman_run_step", "gauge", OF_RUN, "Step at which the run is; a resumed run may go back."),
    Family("steersman_run_planned_epochs", "gauge", OF_RUN, "Epochs after which the run ends, where it told them."),
    Family("steersman_run_planned_steps", "gauge", OF_RUN, "Steps after which the run ends, where it told them."),
    Family("steersman_run_steps_per_second", "gauge", OF_RUN, "Steps a second, by the time of a usual step."),
    Family("steersman_run_attempt", "gauge", OF_RUN, "Number of the attempt that trains."),
    Family("steersman_run_stalled", "gauge", OF_RUN, "1 while the training lives and does not step, else 0."),
    Family("steersman_run_heartbeat_age_seconds", "gauge", OF_RUN, "Time since the supervisor's last heartbeat."),
    Family("steersman_run_point_age_seconds", "gauge", OF_RUN, "Time since the last point that was logged."),
    Family("steersman_run_gpu_utilization_ratio", "gauge", OF_GPU, "Part of the time in which a kernel ran, 0 to 1."),
    Family("steersman_run_gpu_memory_used_bytes", "gauge", OF_GPU, "Memory of the GPU that is in use."),
    Family("steersman_run_gpu_memory_size_bytes", "gauge", OF_GPU, "Memory that the GPU has."),
    Family("steersman_run_gpu_temperature_celsius", "gauge", OF_GPU, "Temperature of the GPU."),
    Family("steersman_run_gpu_power_watts", "gauge", OF_GPU, "Power that the GPU draws."),
    Family("steersman_run_events_total", "counter", OF_RUN, "Events that were stored of the run."),
    Family("steersman_run_interventions_total", "counter", OF_RUN, "Commands that took effect in the run."),
    Family("steersman_run_alerts_total", "counter", OF_RUN, "Alerts that the run had, cleared ones included."),
    Family("steersman_run_open_alerts", "gauge", OF_RUN, "Alerts of the run that are not cleared."),
    Family("steersman_run_journal_backlog_bytes", "gauge", OF_RUN, "Bytes of the journal that are not stored yet."),
    Family("steersman_run_transaction_seconds", "summary", OF_RUN, "Time of the supervisor's transactions."),
    Family("steersman_run_announcements_dropped_total", "counter", OF_RUN, "Announcements that could not be sent."),
    Family("steersman_runs", "gauge", ("state",), "Runs by state, without archived ones."),
    Family("steersman_runs_left_out", "gauge", (), "Live and lost runs beyond the bound, of which nothing is told."),
    Family("steersman_series_left_out", "gauge", (), "Chosen series beyond the bound, which are not told."),
    Family("steersman_commands", "gauge", ("state",), "Commands by state, of the newest 100,000."),
    Family("steersman_alerts", "gauge", ("state", "severity"), "Alerts by state, of the newest 100,000."),
    Family("steersman_deliveries", "gauge", ("state",), "Messages of alerts by state, of the newest 100,000."),
    Family("steersman_portal_viewers", "gauge", (), "Viewers who follow a run, over all web processes."),
    Family("steersman_portal_sockets", "gauge", (), "Open sockets, those included that are not let in yet."),
    Family("steersman_portal_watched_runs", "gauge", (), "Runs that somebody watches, counted in each web process."),
    Family("steersman_portal_queued_frames", "gauge", (), "Frames that wait for slow viewers."),
    Family("steersman_portal_queued_bytes", "gauge", (), "Bytes that wait for slow viewers."),
    Family("steersman_portal_degraded_processes", "gauge", (), "Web processes that follow from the database alone."),
    Family("steersman_portal_events_total", "counter", (), "Events that web processes handed to viewers of a run."),
    Family("steersman_portal_skipped_events_total", "counter", (), "Events that viewers find only in the history."),
    Family("steersman_portal_returns_total", "counter", ("outcome",), "Viewers who came back, by how they caught up."),
    Family("steersman_portal_dropped_frames_total", "counter", (), "Frames thrown away where a viewer was too slow."),
    Family("steersman_portal_closes_total", "counter", ("code",), "Sockets that were closed, by code."),
    Family("steersman_portal_announce_to_socket_seconds", "histogram", (), "Time from an announcement to the sockets."),
)
BY_NAME = {family.name: family for family in FAMILIES}
