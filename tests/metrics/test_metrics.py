"""What /metrics shows, and to whom, within this process."""

from __future__ import annotations

import math
import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from runs.access.tokens import create_token
from runs.metrics import collect as collecting
from runs.metrics import portal_tally
from runs.metrics.families import FAMILIES
from runs.metrics.portal_tally import PortalTally
from runs.models import (
    Alert,
    Command,
    CommandState,
    EpochMetric,
    Membership,
    PortalReport,
    Project,
    Run,
    Series,
    TokenScope,
)
from runs.protocol.reports import LATENCY_BOUNDS_S, PortalCounts, PortalLevels

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    user = User.objects.create(username="owner")
    Membership.objects.create(project=project, user=user, role="owner")
    return project


def key(project: Project, scope: str = TokenScope.METRICS, **fields: Any) -> str:
    return create_token(User.objects.get(username="owner"), project, scope, name="prometheus", **fields)[1]


def ask(value: str = "", **headers: str) -> Any:
    authorization = {"Authorization": f"Bearer {value}"} if value else {}
    return Client().get("/metrics", headers=authorization | headers)


def parsed(response: Any) -> Found:
    assert response.status_code == 200, response.content
    families = text_string_to_metric_families(response.content.decode())
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(found: Found, metric: str, /, **labels: object) -> float | None:
    return found.get((metric, frozenset((label, str(each)) for label, each in labels.items())))


def make_run(project: Project, **fields: Any) -> Run:
    now = timezone.now()
    return Run.objects.create(
        **{
            "project": project, "name": 'tri"al\n', "state": "running", "attempt": 2, "heartbeat_at": now, "epoch": 3,
            "step": 70, "last_seq": 12, "last_point_at": now, "usual_step_s": 0.25, "total_epochs": 9,
            "total_steps": 210, "best_metric": 0.9, "best_metric_name": "validation_accuracy",
            "supervisor_report": {"journal_backlog_bytes": 17, "transactions": 4, "transaction_s": 0.5}, **fields,
        }
    )  # fmt: skip


def fill(run: Run) -> None:
    values = {
        "train/loss": 0.5, "train/accuracy": 0.8, "optimizer/learning_rate": 0.01, "grad_norm": 2.0, "glossary": 1.0,
        "own/a": 7.0, "gpu/0/utilisation": 50.0, "gpu/0/memory_used_mib": 2.0, "gpu/0/memory_total_mib": 4.0,
        "gpu/0/temperature_c": 61.0, "gpu/0/power_w": 250.0,
    }  # fmt: skip
    Series.objects.bulk_create(Series(run=run, name=name, last_value=value) for name, value in values.items())
    Series.objects.create(run=run, name="validation/loss", last_nonfinite="nan")
    EpochMetric.objects.create(run=run, attempt=1, epoch=2, step=40, validation_loss=0.9, at=timezone.now())
    EpochMetric.objects.create(run=run, attempt=2, epoch=3, step=60, validation_loss=0.7, at=timezone.now())
    for state in (CommandState.APPLIED, CommandState.REFUSED):
        Command.objects.create(id=uuid.uuid4(), run=run, kind="note", state=state, sent_at=timezone.now())
    for state in ("open", "cleared"):
        Alert.objects.create(
            run=run, attempt=2, detector="spike", severity="warning", title="up", began_at=timezone.now(), state=state
        )


def test_it_tells_of_live_runs(project: Project) -> None:
    project.metric_series = "own/*\n"
    project.save()
    run = make_run(project)
    fill(run)
    lost = make_run(project, state="lost", heartbeat_at=timezone.now() - timedelta(hours=1))
    make_run(project, state="lost", heartbeat_at=timezone.now() - timedelta(days=2))
    make_run(project, state="finished")
    make_run(project, archived_at=timezone.now())
    found = parsed(ask(key(project)))
    of = {"run": run.pk, "project": "lab"}
    assert value(found, "steersman_run_info", **of, name=run.name, recipe="") == 1
    shown = {dict(labels)["run"] for name, labels in found if name == "steersman_run_step"}
    assert shown == {str(run.pk), str(lost.pk)}
    assert value(found, "steersman_run_state", run=lost.pk, project="lab", state="lost") == 1
    assert value(found, "steersman_run_state", **of, state="lost") is None
    told = {dict(labels)["series"]: each for (name, labels), each in found.items() if name.endswith("series_value")}
    assert math.isnan(told.pop("validation/loss"))
    assert told == {
        "train/loss": 0.5,
        "train/accuracy": 0.8,
        "optimizer/learning_rate": 0.01,
        "grad_norm": 2.0,
        "own/a": 7.0,
    }
    expected = {
        "epoch": 3, "step": 70, "planned_epochs": 9, "planned_steps": 210, "steps_per_second": 4, "attempt": 2,
        "stalled": 0, "events_total": 12, "interventions_total": 1, "alerts_total": 2, "open_alerts": 1,
        "journal_backlog_bytes": 17, "transaction_seconds_sum": 0.5, "transaction_seconds_count": 4,
        "announcements_dropped_total": 0,
    }  # fmt: skip
    assert {name: value(found, f"steersman_run_{name}", **of) for name in expected} == expected
    gpu = {
        "utilization_ratio": 0.5, "memory_used_bytes": 2 << 20, "memory_size_bytes": 4 << 20,
        "temperature_celsius": 61, "power_watts": 250,
    }  # fmt: skip
    assert {name: value(found, f"steersman_run_gpu_{name}", **of, gpu=0) for name in gpu} == gpu
    assert value(found, "steersman_run_epoch_value", **of, metric="validation_loss") == 0.7
    assert value(found, "steersman_run_best_value", **of, metric="validation_accuracy") == 0.9
    age = value(found, "steersman_run_heartbeat_age_seconds", run=lost.pk, project="lab")
    assert age is not None and age >= 3600
    assert value(found, "steersman_runs", state="finished") == 1
    assert value(found, "steersman_commands", state="refused") == 1
    assert value(found, "steersman_alerts", state="open", severity="warning") == 1


def test_it_costs_the_same_queries_for_many_runs_and_tells_what_it_leaves_out(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = key(project)
    fill(make_run(project))
    ask(token)
    with CaptureQueriesContext(
        connection,
    ) as one:
        ask(token)
    for _ in range(9):
        fill(make_run(project))
    with CaptureQueriesContext(connection) as many:
        found = parsed(ask(token))
    assert len(one) == len(many)
    assert value(found, "steersman_runs_left_out") == value(found, "steersman_series_left_out") == 0
    monkeypatch.setattr(collecting, "MOST_RUNS", 4)
    monkeypatch.setattr(collecting, "MOST_SERIES_OF_A_RUN", 2)
    monkeypatch.setattr(collecting, "MOST_SERIES", 7)
    found = parsed(ask(token))
    assert value(found, "steersman_runs_left_out") == 6
    assert sum(name == "steersman_run_series_value" for name, _ in found) == 7
    # The endpoint selects five series of each of the four runs.
    assert value(found, "steersman_series_left_out") == 4 * 5 - 7


def test_a_token_tells_of_its_project_or_its_run_alone(project: Project) -> None:
    other = Project.objects.create(name="Other", slug="other")
    run, second, foreign = make_run(project), make_run(project), make_run(other)
    fill(foreign)

    def runs(found: Found) -> set[str]:
        return {dict(labels)["run"] for _, labels in found if "run" in dict(labels)}

    whole, single = parsed(ask(key(project))), parsed(ask(key(project, run=run)))
    assert runs(whole) == {str(run.pk), str(second.pk)} and runs(single) == {str(run.pk)}
    assert value(whole, "steersman_runs", state="running") == 2
    assert value(single, "steersman_runs", state="running") == 1
    assert not any(name in ("steersman_commands", "steersman_alerts") for name, _ in whole)


def test_it_refuses_all_others_with_a_sentence(project: Project, settings: Any) -> None:
    run = make_run(project)
    assert ask().status_code == 401 and "scope metrics" in ask().content.decode()
    assert ask().headers["WWW-Authenticate"] == "Bearer"
    assert ask("stm_invented").status_code == 401
    assert ask(Authorization="Basic abc").status_code == 401
    for scope in (TokenScope.VIEW, TokenScope.COMMAND):
        refused = ask(key(project, scope))
        assert refused.status_code == 403 and "another scope" in refused.content.decode()
    assert ask(key(project, TokenScope.SHARE, run=run)).status_code == 401
    assert Client().post("/metrics").status_code == 405
    opened = Client().get("/api/runs/", headers={"Authorization": f"Bearer {key(project)}"})
    assert opened.status_code == 403 and "metrics" in opened.content.decode()


def test_an_address_that_is_allowed_sees_all_projects(project: Project, settings: Any) -> None:
    make_run(project)
    make_run(Project.objects.create(name="Other", slug="other"))
    settings.STEERSMAN_METRICS_FROM = collecting_networks("127.0.0.1/32,2001:db8::7/128")
    assert {dict(labels).get("project") for _, labels in parsed(ask())} >= {"lab", "other"}
    # A wrong token is refused although the address alone would be allowed.
    assert ask("stm_invented").status_code == 401
    # An untrusted proxy, whose address all its clients have.
    for header in ("X-Forwarded-For", "X-Real-IP", "Via", "Forwarded"):
        assert ask(**{header: "127.0.0.1"}).status_code == 401
    settings.BEHIND_TLS = True
    assert ask(**{"X-Forwarded-For": "127.0.0.1, 198.51.100.9"}).status_code == 401
    assert ask(**{"X-Forwarded-For": "198.51.100.9, 127.0.0.1"}).status_code == 200
    assert ask(**{"X-Forwarded-For": "2001:db8::7"}).status_code == 200
    assert ask(**{"X-Forwarded-For": "2001:db8::8"}).status_code == 401
    assert ask(Via="1.1 proxy").status_code == 401
    assert ask().status_code == 200


def collecting_networks(text: str) -> list[Any]:
    from ipaddress import ip_network

    return [ip_network(each) for each in text.split(",")]


def test_it_speaks_openmetrics_where_that_is_asked_for(project: Project) -> None:
    make_run(project)
    token = key(project)
    assert ask(token).headers["Content-Type"].startswith("text/plain")
    answer = ask(token, Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_the_sum_over_processes_never_falls() -> None:
    first, second = PortalTally(), PortalTally()
    first.counts.events, second.counts.events = 5, 7
    first.levels, second.levels = PortalLevels(viewers=2), PortalLevels(viewers=3)
    first.counts.note_close(4401)
    first.counts.note_close(4999)
    first.counts.note_latency(0.003)
    first.write()
    second.write()
    counts, levels = portal_tally.read()
    assert (counts.events, levels.viewers, counts.closes) == (12, 5, {"4401": 1, "other": 1})
    assert sum(counts.latencies) == 1 and len(counts.latencies) == len(LATENCY_BOUNDS_S) + 1
    # One portal dies: its current values disappear, and its counts remain, even when its row is summed up.
    PortalReport.objects.filter(levels__viewers=3).update(written_at=timezone.now() - timedelta(minutes=11))
    assert (portal_tally.read()[0].events, portal_tally.read()[1].viewers) == (12, 2)
    portal_tally.sum_up()
    assert (portal_tally.read()[0].events, portal_tally.read()[1].viewers) == (12, 2)
    assert PortalReport.objects.count() == 2
    # The portal was only suspended: nothing is counted twice.
    second.counts.events += 1
    second.write()
    second.write()
    assert (portal_tally.read()[0].events, portal_tally.read()[1].viewers) == (13, 5)
    second.leave()
    assert portal_tally.read()[1].viewers == 2


def test_counts_of_a_version_with_fewer_buckets_are_added() -> None:
    assert PortalCounts(latencies=[1, 2]).plus(PortalCounts(latencies=[1, 1, 5])).latencies == [2, 3, 5]


@pytest.mark.parametrize("text", ["*", "a*b", "x" * 201, "\n".join(f"a{n}" for n in range(51))])
def test_marks_that_would_tell_everything_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Project(name="Lab", slug="lab", metric_series=text).full_clean()


def test_the_page_lists_each_metric_as_it_is() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(
        r"^\| `(steersman_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| (.+) \|$",
        page,
        re.M,
    )
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, _, labels, text in rows}
    assert listed == {each.name: (each.kind, tuple(each.labels), each.help) for each in FAMILIES}
    units = {"seconds": "seconds", "bytes": "bytes", "ratio": "0 to 1", "celsius": "°C", "watts": "watts"}
    for name, _, unit, _, _ in rows:
        if not name.endswith("_per_second"):
            assert unit == units.get(name.removesuffix("_total").rpartition("_")[2], ""), name
