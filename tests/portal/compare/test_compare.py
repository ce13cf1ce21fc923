"""Runs side by side: which are shown, what differs, which is best, and that strangers learn nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from runs.models import Axis, EpochMetric, Membership, Project, Role, Run, RunState, Series
from runs.portal.compare.metrics import low_is_good
from runs.portal.compare.requested_runs import MOST_RUNS

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    Membership.objects.create(project=project, user=User.objects.create_user("viewer"), role=Role.VIEWER)
    return project


@pytest.fixture
def viewer(project: Project, client: Client) -> Client:
    client.force_login(User.objects.get(username="viewer"))
    return client


def make_run(project: Project, name: str, losses: tuple[float, ...] = (), **fields: Any) -> Run:
    run = Run.objects.create(project=project, name=name, attempt=1, **fields)
    for number, loss in enumerate(losses, 1):
        EpochMetric.objects.create(
            run=run, attempt=1, epoch=number, step=number * 10, validation_loss=loss, at=MOMENT, extra={"f1": loss / 2}
        )
    Series.objects.create(run=run, name="train/loss", last_step=9, last_value=0.25)
    Series.objects.create(run=run, name="gpu/0/utilisation", axis=Axis.TIME, last_value=80)
    return run


def address(*runs: Run | int, **more: str) -> str:
    query = [f"run={run if isinstance(run, int) else run.pk}" for run in runs]
    return f"{reverse('compare')}?{'&'.join(query + [f'{name}={value}' for name, value in more.items()])}"


def shown(answer: Any) -> list[str]:
    return [item.title for item in answer.context["compared"]]


def test_it_shows_the_asked_runs_in_their_order_once_each(project: Project, viewer: Client) -> None:
    first, second = make_run(project, "first"), make_run(project, "second")
    answer = viewer.get(address(second, first, second))
    assert shown(answer) == ["second", "first"]
    assert answer.context["notes"] == []
    without = answer.context["compared"][0].without
    assert without == address(first)


def test_it_leaves_out_what_is_not_there_or_not_the_viewers(project: Project, viewer: Client) -> None:
    own = make_run(project, "own")
    foreign = make_run(Project.objects.create(name="Other", slug="other"), "secret plan")
    answer = viewer.get(address(own, foreign, 999) + f"&run=-1&run=abc&run={'9' * 30}&run=²")
    assert shown(answer) == ["own"]
    [note] = answer.context["notes"]
    assert note.startswith("2 runs do not exist")
    assert b"secret plan" not in answer.content


def test_it_compares_fifty_runs_and_says_that_more_were_asked_for(project: Project, viewer: Client) -> None:
    runs = [make_run(project, f"run {number}", parameters={"rate": number % 3}) for number in range(MOST_RUNS + 2)]
    answer = viewer.get(address(*runs))
    assert len(answer.context["compared"]) == MOST_RUNS
    [note] = answer.context["notes"]
    assert note.startswith("At most 50 runs can be compared one by one. These are the first of 52: group them by")
    grouped = viewer.get(address(*runs, group="parameter:rate"))
    assert grouped.context["notes"] == [] and sum(len(item.runs) for item in grouped.context["compared"]) == 52


def test_it_says_how_to_choose_where_nothing_is_chosen(viewer: Client) -> None:
    answer = viewer.get(reverse("compare"))
    assert answer.status_code == 200
    assert b"Select up to 50 runs in the list" in answer.content


def test_it_says_what_to_do_where_there_is_nothing_to_compare_with(project: Project, viewer: Client) -> None:
    first, second = (make_run(project, name, parameters={"rate": 0.1}) for name in ("first", "second"))
    alone = viewer.get(address(first)).content.decode()
    assert "Only one run is compared" in alone and "The parameters are the same" not in alone
    assert "The parameters are the same" in viewer.get(address(first, second)).content.decode()


def test_its_list_of_keys_has_those_that_move_a_zoomed_chart(project: Project, viewer: Client) -> None:
    page = viewer.get(address(make_run(project, "first"))).content.decode()
    assert "<dt><kbd>Shift</kbd></dt><dd>On a zoomed chart: drag, or press ← and →, to move what is shown</dd>" in page


def test_it_loads_one_script_that_serves_the_whole_page(project: Project, viewer: Client) -> None:
    run = make_run(project, "first")
    modules = re.compile(r'<script type="module" src="/static/(.+?)(?:\.[0-9a-f]{12})?\.js"')
    pages = {address(): "js/shared/page_frame", address(run): "vendor/compare-page",
             reverse("run", args=[run.pk]): "vendor/run-page", reverse("runs"): "vendor/list-page",
             reverse("project", args=[project.slug]): "vendor/project-page"}  # fmt: skip
    # Each bundle contains the frame of every page; with two copies, one click would change the theme twice.
    assert {page: modules.findall(viewer.get(page).content.decode()) for page in pages} == {
        page: [module] for page, module in pages.items()
    }


def test_it_sends_people_without_a_session_to_the_login(project: Project) -> None:
    answer = Client().get(address(make_run(project, "own")))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("login"))


def test_it_tells_parameters_that_differ_from_those_that_do_not(project: Project, viewer: Client) -> None:
    first = make_run(project, "first", parameters={"rate": 0.1, "width": 32, "<b>": 1})
    second = make_run(project, "second", parameters={"rate": 0.2, "width": 32})
    answer = viewer.get(address(first, second))
    differing = {line.name: [cell.text for cell in line.cells] for line in answer.context["differing"]}
    assert differing == {"rate": ["0.1", "0.2"], "<b>": ["1", "–"]}
    assert ("width", "32") in answer.context["equal"]
    assert b"<b>" not in answer.content


def test_it_marks_the_best_of_all_runs(project: Project, viewer: Client) -> None:
    first = make_run(project, "first", (0.9, 0.3, 0.5))
    second = make_run(project, "second", (0.8, 0.4))
    lines = {(line.name, line.part): line.cells for line in viewer.get(address(first, second)).context["metrics"]}
    assert [cell.number for cell in lines["validation_loss", "last"]] == [0.5, 0.4]
    assert [(cell.number, cell.is_best) for cell in lines["validation_loss", "lowest"]] == [(0.3, True), (0.4, False)]
    assert [cell.number for cell in lines["f1", "last"]] == [0.25, 0.2]
    assert [cell.number for cell in lines["train/loss", "last"]] == [0.25, 0.25]
    assert ("gpu/0/utilisation", "last") not in lines


def test_it_compares_all_with_a_baseline_and_counts_what_each_is_best_in(project: Project, viewer: Client) -> None:
    runs = [make_run(project, "first", (0.9, 0.5), parameters={"rate": 0.1, "width": 32}),
            make_run(project, "second", (0.8, 0.4), parameters={"rate": 0.2, "width": 64}),
            make_run(project, "third", (0.6,), parameters={"rate": 0.1})]  # fmt: skip
    Series.objects.filter(run=runs[2], name="train/loss").update(last_value=None, last_nonfinite="nan")
    for run in runs:
        Series.objects.create(run=run, name="learning_rate", last_value=run.pk)
    context = viewer.get(address(*runs, baseline=str(runs[0].pk))).context
    lines = {(line.name, line.part): line.cells for line in context["metrics"]}
    last = lines["validation_loss", "last"]
    assert [cell.delta for cell in last] == [None, pytest.approx(-0.1), pytest.approx(0.1)]
    assert [cell.is_better for cell in last] == [None, True, False]
    assert [cell.delta for cell in lines["train/loss", "last"]] == [None, 0, None], "NaN has no difference"
    assert [cell.is_better for cell in lines["learning_rate", "last"]] == [None] * 3, "no end of it is the good one"
    differing = {line.name: [cell.differs for cell in line.cells] for line in context["differing"]}
    assert differing == {"rate": [False, True, False], "width": [False, True, True]}
    shown = context["compared"]
    assert [item.is_baseline for item in shown] == [True, False, False]
    assert [(item.wins, item.is_best) for item in shown] == [(0, False), (2, True), (1, False)]
    assert shown[1].without == address(runs[0], runs[2], baseline=str(runs[0].pk))
    for nobody in ("", "999999", "abc"):
        context = viewer.get(address(*runs, baseline=nobody)).context
        assert all(cell.delta is None for line in context["metrics"] for cell in line.cells)


def test_groups_have_the_mean_and_spread_of_their_runs(project: Project, viewer: Client) -> None:
    values = {(10.0, 1): 0.5, (10.0, 2): 0.7, (9.0, 3): 0.4, (9.0, 4): None}
    runs = [make_run(project, "run", parameters={"rate": rate, "width": 32}, seed=seed) for rate, seed in values]
    for run, value in zip(runs, values.values(), strict=True):
        Series.objects.filter(run=run, name="train/loss").update(
            last_value=value, last_nonfinite="" if value else "nan"
        )
    answer = viewer.get(address(*runs, group="parameter:rate", baseline="0"))
    offered = {one.key: one.values for one in answer.context["comparison"].offered}
    assert offered == {"parameter:rate": 2, "seed": 4}, "of the width there is one value"
    compared = answer.context["compared"]
    assert [(item.title, item.note) for item in compared] == [("rate = 9.0", "2 runs"), ("rate = 10.0", "2 runs")]
    assert compared[0].without == address(*runs[:2], group="parameter%3Arate")
    [loss] = [line.cells for line in answer.context["metrics"] if line.name == "train/loss"]
    assert [(cell.number, cell.spread) for cell in loss] == [(0.4, None), (pytest.approx(0.6), pytest.approx(0.1))]
    assert (loss[1].delta, loss[1].is_better) == (pytest.approx(0.2), False)
    differing = {line.name: [cell.text for cell in line.cells] for line in answer.context["differing"]}
    assert differing == {"seed": ["2 values", "2 values"], "rate": ["9.0", "10.0"]}
    for nothing in ("parameter:width", "parameter:none", "pk"):
        assert viewer.get(address(*runs, group=nothing)).context["comparison"].choice is None


def test_it_forgets_epochs_that_a_later_attempt_went_over(project: Project, viewer: Client) -> None:
    run = make_run(project, "resumed", (0.9, 0.1))
    EpochMetric.objects.create(run=run, attempt=2, epoch=2, step=20, validation_loss=0.7, at=MOMENT)
    lines = {(line.name, line.part): line.cells for line in viewer.get(address(run)).context["metrics"]}
    assert lines["validation_loss", "lowest"][0].number == 0.7


def test_it_names_values_that_are_no_finite_numbers(project: Project, viewer: Client) -> None:
    run = make_run(project, "broken")
    EpochMetric.objects.create(run=run, attempt=1, epoch=1, step=10, nonfinite={"validation_loss": "nan"}, at=MOMENT)
    Series.objects.filter(run=run, name="train/loss").update(last_value=None, last_nonfinite="inf")
    answer = viewer.get(address(run))
    lines = {(line.name, line.part): line.cells[0].text for line in answer.context["metrics"]}
    assert lines["validation_loss", "last"] == "NaN"
    assert lines["train/loss", "last"] == "∞"


def charts(answer: Any) -> dict[str, list[tuple[str, int]]]:
    """Return (key, number of runs with it) of the charts, by the title of their group."""
    return {group.title: [(one.key, one.runs) for one in group.charts] for group in answer.context["chart_groups"]}


def test_it_has_a_chart_for_every_metric_and_puts_those_of_one_run_apart(project: Project, viewer: Client) -> None:
    first, second = make_run(project, "first", (0.5,)), make_run(project, "second", (0.6,))
    Series.objects.create(run=second, name="only/second", last_value=1)
    for run in (first, second):
        Series.objects.create(run=run, name="optimizer/rate", last_value=1)
    answer = viewer.get(address(first, second))
    assert charts(answer) == {
        "Train": [("train/loss", 2)],
        "Optimizer": [("optimizer/rate", 2)],
        "Epochs": [("epoch:validation_loss", 2), ("epoch:f1", 2)],
        "Only in one of the runs": [("only/second", 1)],
        "Machine": [("gpu/0/utilisation", 2)],
    }
    assert {group.title: group.open for group in answer.context["chart_groups"]}["Only in one of the runs"] is False
    chinese = viewer.get(address(first, second), headers={"Accept-Language": "zh-hans"})
    assert list(charts(chinese))[:2] == ["训练", "优化器"]
    assert charts(viewer.get(address(second)))["only"] == [("only/second", 1)], "a run alone has all it has"


def test_it_takes_the_two_usual_names_of_a_training_loss_as_one(project: Project, viewer: Client) -> None:
    recipe, script = make_run(project, "recipe"), Run.objects.create(project=project, name="script")
    Series.objects.create(run=script, name="loss", last_value=0.125)
    answer = viewer.get(address(recipe, script))
    assert charts(answer)["Train"] == [("train/loss", 2)] and "Metrics" not in charts(answer)
    lines = {line.name: [cell.number for cell in line.cells] for line in answer.context["metrics"]}
    assert lines["train/loss"] == [0.25, 0.125] and "loss" not in lines
    # A run with both names uses them for different values.
    Series.objects.create(run=script, name="train/loss", last_value=0.5)
    assert charts(viewer.get(address(recipe, script)))["Only in one of the runs"] == [("loss", 1)]


@pytest.mark.parametrize(
    ("name", "low"),
    [("train/loss", True), ("val_perplexity", True), ("validation/accuracy", False), ("eval/f1", False),
     ("learning_rate", None), ("loss_scale", None), ("glossary", None)],
)  # fmt: skip
def test_a_name_says_which_end_of_a_metric_is_good(name: str, low: bool | None) -> None:
    assert low_is_good(name) is low


def test_it_lists_names_in_the_order_in_which_people_count(project: Project, viewer: Client) -> None:
    names = ("blocks.10/norm", "blocks.2/norm", "Blocks.1/norm", "loss")
    run = make_run(project, "layers", parameters=dict.fromkeys(names, 1))
    for name in names:
        Series.objects.create(run=run, name=name, last_value=1)
        EpochMetric.objects.update_or_create(
            run=run, attempt=1, epoch=1, defaults={"step": 1, "at": MOMENT, "extra": dict.fromkeys(names, 1.0)}
        )
    counted = ["Blocks.1/norm", "blocks.2/norm", "blocks.10/norm", "loss"]
    context = viewer.get(address(run)).context
    titles = [(group.title, [one.name for one in group.charts]) for group in context["chart_groups"]]
    assert [title for title, _ in titles] == ["Train", "Metrics", "Blocks.1", "blocks.2", "blocks.10", "Epochs",
                                              "Machine"]  # fmt: skip
    assert dict(titles)["Epochs"] == counted
    assert [name for name, _ in context["equal"]][-4:] == counted
    assert [line.name for line in context["metrics"]] == [*counted, *counted, "train/loss"]
    listed = viewer.get(reverse("api:list_series", args=[run.pk]) + "?limit=2&offset=1").json()
    assert (listed["count"], [item["name"] for item in listed["items"]]) == (6, counted[1:3])


def test_it_refreshes_the_tables_alone(project: Project, viewer: Client) -> None:
    run = make_run(project, "live", (0.5,), state=RunState.RUNNING)
    answer = viewer.get(address(run, fragment="1"))
    assert b'data-table="runs"' in answer.content and b'data-table="metrics"' in answer.content
    assert b"<html" not in answer.content


def test_it_tells_the_group_of_each_run_by_which_it_is_kept_fresh(project: Project, viewer: Client) -> None:
    states = {RunState.QUEUED: "waiting", RunState.PAUSED: "live", RunState.LOST: "lost", RunState.STOPPED: "ended"}
    runs = [make_run(project, str(state), state=state, started_at=MOMENT) for state in states]
    page = viewer.get(address(*runs))
    assert [run["group"] for run in page.context["page"]["runs"]] == list(states.values())
    for answer in (page, viewer.get(address(*runs, fragment="1"))):
        text = answer.content.decode()
        assert re.findall(r'data-group="(\w+)" data-start="([\d.]+)"', text) == [
            (group, f"{MOMENT.timestamp():.3f}") for group in states.values()
        ]


def queries(viewer: Client, wanted: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert viewer.get(wanted).status_code == 200
    return len(captured)


def test_it_asks_the_database_as_often_for_many_long_runs_as_for_two_short_ones(
    project: Project, viewer: Client
) -> None:
    runs = [make_run(project, f"run {number}", (0.5,)) for number in range(12)]
    few = queries(viewer, address(*runs[:2]))
    for run in runs:
        for number in range(2, 30):
            EpochMetric.objects.create(run=run, attempt=1, epoch=number, step=number, validation_loss=0.5, at=MOMENT)
            Series.objects.create(run=run, name=f"series/{number}", last_value=1)
    assert queries(viewer, address(*runs)) == few <= 10
    assert queries(viewer, address(*runs, fragment="1")) <= 10
    for number, run in enumerate(runs):
        Run.objects.filter(pk=run.pk).update(parameters={"rate": number % 3})
    assert queries(viewer, address(*runs, group="parameter:rate")) <= 10
