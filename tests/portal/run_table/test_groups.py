"""The list in groups: how many runs share a value, what they measured, and the runs themselves when unfolded."""

from __future__ import annotations

import html
import math
import re
import statistics
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from runs.curation.tags import change_tags
from runs.models import Membership, Project, Role, Run, RunState, Series
from runs.portal.run_table.groups import mean_and_deviation

pytestmark = pytest.mark.django_db
COLUMNS = ["parameter:lr", "last:val/accuracy", "duration", "best"]


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    ada = User.objects.create_user("ada", first_name="Ada Lovelace")
    Membership.objects.create(project=project, user=ada, role=Role.VIEWER)
    return project


@pytest.fixture
def client(project: Project) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="ada"))
    return client


def make(project: Project, name: str, accuracy: float | None, **fields: Any) -> Run:
    fields = {"state": RunState.FINISHED, "parameters": {"lr": 0.1}} | fields
    run = Run.objects.create(project=project, name=name, **fields)
    if accuracy is not None:
        Series.objects.create(run=run, name="val/accuracy", last_value=accuracy)
    return run


def groups(client: Client, by: str, **query: Any) -> list[Any]:
    answer = client.get(reverse("runs"), {"group": by, "column": COLUMNS, **query})
    return [band.group for band in answer.context["bands"]]


def test_a_group_has_the_number_the_mean_and_the_spread_of_its_runs(project: Project, client: Client) -> None:
    for seed, accuracy in enumerate((0.5, 0.75, 0.875)):
        make(
            project, f"adam {seed}", accuracy, parameters={"optimizer": "adam", "lr": 10.0**-seed}, trained_s=60 * seed
        )
    make(project, "live", None, parameters={"optimizer": "adam"}, state=RunState.RUNNING)
    make(project, "sgd", 0.25, parameters={"optimizer": "sgd", "lr": 0.5})
    make(project, "plain", 0.125, parameters={})
    adam, sgd, plain = groups(client, "parameter:optimizer")
    assert [(group.title, group.count, group.live) for group in (adam, sgd, plain)] == [
        ("adam", 4, 1),
        ("sgd", 1, 0),
        ("not set", 1, 0),
    ]
    rate, accuracy_of, duration, _best = adam.shown
    assert (rate.low, rate.high, rate.is_setting) == (0.01, 1.0, True)
    assert accuracy_of.count == 3
    assert accuracy_of.mean == pytest.approx(statistics.mean([0.5, 0.75, 0.875]))
    assert accuracy_of.deviation == pytest.approx(statistics.stdev([0.5, 0.75, 0.875]))
    assert duration.is_duration and duration.mean == 45
    assert (sgd.shown[1].mean, sgd.shown[1].deviation) == (0.25, None)
    text = client.get(reverse("runs"), {"group": "parameter:optimizer", "column": COLUMNS}).content.decode()
    assert ">0.7083<" in text and 'data-name="val/accuracy">0.19<' in text
    assert "4 runs · 1 live" in " ".join(text.split())
    assert "Groups 1 to 3 of 3 · 6 runs" in " ".join(text.split())
    assert 'data-testid="run-row"' not in text


@pytest.mark.parametrize(
    ("by", "titles"),
    [
        ("state", ["running", "finished", "failed"]),
        ("author", ["Ada Lovelace", "not set"]),
        ("tag", ["baseline", "try", "no tag"]),
        ("host", ["gpu2", "gpu10", "not set"]),
        ("parameter:width", ["2", "10", "wide"]),
        ("seed", ["0", "7"]),
    ],
)
def test_runs_are_grouped_by_facts_tags_and_parameters(
    project: Project, client: Client, by: str, titles: list[str]
) -> None:
    ada = User.objects.get(username="ada")
    first = make(project, "a", 0.5, created_by=ada, queued_host="gpu10", parameters={"width": 10}, seed=7)
    second = make(project, "b", 0.5, state=RunState.FAILED, queued_host="gpu2", parameters={"width": 2.0})
    make(project, "c", 0.5, state=RunState.RUNNING, parameters={"width": "wide"})
    make(project, "d", 0.5, parameters={"width": 2})
    change_tags(first.pk, ["baseline", "try"])
    change_tags(second.pk, ["try"])
    found = groups(client, by)
    assert [group.title for group in found] == titles
    # Each group leads to the list of just its runs, those without a value too.
    for group in found:
        rows = client.get(reverse("runs"), parse_qs(group.narrowed)).context["rows"]
        assert len(rows) == group.count, group.title
    if by == "tag":
        # A run has several tags: it is counted once.
        assert client.get(reverse("runs"), {"group": by}).context["grouped_runs"] == 4


def test_a_parameter_may_have_any_name_and_any_value(project: Project, client: Client) -> None:
    name = 'q"x\\y'
    for number, value in enumerate((True, "true", 1, 1.0, 1e300, 10**30, [1, 2], {"a": None}, None, "", "nan", 1e-5)):
        make(project, f"run {number}", 0.5, parameters={"plain": value, name: value})
    titles = [(group.title, group.count) for group in groups(client, "parameter:plain")]
    assert titles == [(group.title, group.count) for group in groups(client, f"parameter:{name}")]
    assert {"true": 2, "1": 2, "not set": 2, "nan": 1, "1e-05": 1}.items() <= dict(titles).items()
    assert sum(count for _, count in titles) == 12


def test_unfolding_shows_the_first_runs_of_a_group_in_the_order_of_the_list(project: Project, client: Client) -> None:
    for number in range(23):
        make(project, f"run {number}", number / 100, parameters={"optimizer": "adam"})
    make(project, "other", 0.5, parameters={"optimizer": 'say "x"'})
    folded = groups(client, "parameter:optimizer", sort="-last:val/accuracy")
    assert [(group.title, group.is_open) for group in folded] == [('say "x"', False), ("adam", False)]
    # A value with a quotation mark cannot be searched for.
    assert folded[0].narrowed == ""
    answer = client.get(reverse("runs"), parse_qs(folded[1].query))
    assert [row.run.name for row in answer.context["rows"]] == [f"run {number}" for number in range(22, 2, -1)]
    unfolded = answer.context["bands"][1].group
    assert unfolded.is_open and unfolded.more == 3
    assert "Show all 23 runs" in html.unescape(answer.content.decode())
    assert 'aria-expanded="true"' in answer.content.decode()
    again = client.get(reverse("runs"), parse_qs(unfolded.query))
    assert again.context["rows"] == [] and "group=parameter" in unfolded.query


def test_groups_are_sorted_by_the_mean_of_a_column(project: Project, client: Client) -> None:
    for name, accuracy in (("a", 0.25), ("b", 0.75), ("c", 0.5), ("d", None)):
        make(project, name, accuracy, parameters={"optimizer": name})
    assert [group.title for group in groups(client, "parameter:optimizer")] == ["a", "b", "c", "d"]
    rising = groups(client, "parameter:optimizer", sort="last:val/accuracy")
    assert [group.title for group in rising] == ["a", "c", "b", "d"]
    falling = groups(client, "parameter:optimizer", sort="-last:val/accuracy")
    assert [group.title for group in falling] == ["b", "c", "a", "d"]
    own = groups(client, "parameter:optimizer", sort="-parameter:optimizer")
    assert [group.title for group in own] == ["d", "c", "b", "a"]


def test_best_values_of_different_metrics_have_no_mean(project: Project, client: Client) -> None:
    make(project, "a", 0.5, best_metric=0.9, best_metric_name="accuracy", parameters={"optimizer": "adam"})
    make(project, "b", 0.5, best_metric=0.1, best_metric_name="loss", parameters={"optimizer": "adam"})
    make(project, "c", 0.5, best_metric=0.1, best_metric_name="loss", parameters={"optimizer": "sgd"})
    adam, sgd = groups(client, "parameter:optimizer")
    assert (adam.shown[3].unlike, adam.shown[3].mean) == (True, None)
    assert (sgd.shown[3].mean, sgd.shown[3].name) == (0.1, "loss")


def test_numbers_at_the_end_of_the_scale_break_no_page(project: Project, client: Client) -> None:
    for number, value in enumerate((1.7e308, 1.6e308, -1.7e308)):
        make(project, f"run {number}", value, parameters={"optimizer": "adam"})
    (group,) = groups(client, "parameter:optimizer", sort="-last:val/accuracy")
    assert group.shown[1].mean == pytest.approx(1.6e308 / 3)
    for numbers in ([1e-300, 3e-300], [1e200, 3e200], [0.1] * 7, [-1.0, 1.0]):
        mean, deviation = mean_and_deviation(numbers)
        assert mean == pytest.approx(statistics.mean(numbers), abs=0)
        assert deviation == pytest.approx(statistics.stdev(numbers), abs=0)
    assert mean_and_deviation([0.0]) == (0.0, None)
    assert math.isfinite(mean_and_deviation([5e-324, 0.0])[0])


def test_what_cannot_be_grouped_by_is_the_plain_list(project: Project, client: Client) -> None:
    make(project, "a", 0.5)
    for key in ("name", "last:val/accuracy", "nothing", "parameter:", ""):
        answer = client.get(reverse("runs"), {"group": key})
        assert [row.run.name for row in answer.context["rows"]] == ["a"], key


def test_the_menu_offers_the_parameters_of_runs_that_the_reader_sees(project: Project, client: Client) -> None:
    make(project, "a", 0.5, parameters={"width": 3, "same": 1})
    make(project, "b", 0.5, parameters={"width": 4, "same": 1, "once": 1})
    other = Project.objects.create(name="Other", slug="other")
    make(other, "hidden", 0.5, parameters={"secret": 1})
    text = client.get(reverse("runs"), {"group": "parameter:gone"}).content.decode()
    offered = re.findall(r'<option value="([^"]*)"( selected)?>By ', text)
    assert ("parameter:width", "") in offered and ("parameter:gone", " selected") in offered
    assert ("author", "") in offered and "secret" not in text
    # A parameter in which the runs do not differ makes one group of all.
    assert not {"parameter:same", "parameter:once"} & {key for key, _ in offered}


def test_a_page_of_groups_takes_the_same_queries_for_any_number_of_runs(project: Project, client: Client) -> None:
    query = {"group": "parameter:optimizer", "column": COLUMNS, "sort": "-loss", "open": ["0", "1"]}

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(reverse("runs"), query).status_code == 200
        return len(captured)

    for number in range(4):
        change_tags(make(project, f"run {number}", 0.5, parameters={"optimizer": number % 2}).pk, ["x"])
    few = count()
    for number in range(60):
        change_tags(make(project, f"more {number}", 0.5, parameters={"optimizer": number % 30}).pk, ["x"])
    assert count() == few
    assert len(groups(client, "parameter:optimizer")) == 25
    assert len(groups(client, "parameter:optimizer", page=2)) == 5


def test_a_view_keeps_the_groups(project: Project, client: Client) -> None:
    Membership.objects.filter(project=project).update(role=Role.OPERATOR)
    sent = {"name": "By optimizer", "query": "group=parameter%3Aoptimizer&open=adam&page=2"}
    client.post(reverse("save_view", args=["digits"]), sent)
    assert project.saved_views.get().query == "group=parameter%3Aoptimizer"
