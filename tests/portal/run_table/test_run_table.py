"""The list of runs in use: sorted by any column, with chosen columns, searched by comparisons."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from runs.models import Membership, Project, Role, Run, RunState, Series
from runs.portal.run_table.columns import NAMED_BY
from runs.protocol.causes import EndedWithCode, stored

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    ada = User.objects.create_user("ada")
    Membership.objects.create(project=project, user=ada, role=Role.VIEWER)
    return project


@pytest.fixture
def client(project: Project) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="ada"))
    return client


def make(project: Project, name: str, value: float, **fields: Any) -> Run:
    run = Run.objects.create(project=project, name=name, parameters={"lr": value, "layers": 3}, **fields)
    Series.objects.create(run=run, name="val/accuracy", last_value=1 - value)
    return run


def shown(client: Client, **query: Any) -> list[str]:
    return [row.run.name for row in client.get(reverse("runs"), query).context["rows"]]


def page(client: Client, **query: Any) -> str:
    return client.get(reverse("runs"), query).content.decode()


def test_a_click_on_a_head_sorts_and_a_second_one_turns_it(project: Project, client: Client) -> None:
    for name, value in (("a", 0.3), ("b", 0.1), ("c", 0.2)):
        make(project, name, value)
    query = {"column": ["parameter:lr"], "q": "lr < 1"}
    head = next(head for head in client.get(reverse("runs"), query).context["heads"] if head.key == "parameter:lr")
    assert (head.sorted, head.note) == ("", "parameter")
    first = parse_qs(head.query)
    assert first["q"] == ["lr < 1"] and first["sort"] == ["-parameter:lr"]
    assert shown(client, **first) == ["a", "c", "b"]
    answer = client.get(reverse("runs"), first)
    head = next(head for head in answer.context["heads"] if head.key == "parameter:lr")
    assert head.sorted == "descending"
    assert 'aria-sort="descending"' in answer.content.decode()
    assert shown(client, **parse_qs(head.query)) == ["b", "c", "a"]


def test_columns_show_parameters_and_last_values(project: Project, client: Client) -> None:
    make(project, "a", 0.25)
    odd = make(project, "b", 0.5)
    Series.objects.filter(run=odd).update(last_value=None, last_nonfinite="nan")
    text = page(client, column=["parameter:lr", "last:val/accuracy", "host", "last:none", "no such column"])
    heads = re.findall(r'data-sort href="[^"]*"[^>]*>([^<]+)<', text)
    assert heads == ["State", "Run", "lr", "val/accuracy", "Host", "none"]
    assert ">0.25<" in text and 'data-number="0.75"' in text and ">NaN<" in text
    assert "Progress" not in text[text.index("<table") :]


def test_columns_show_and_sort_by_the_lowest_and_the_highest_value(project: Project, client: Client) -> None:
    for name, low, high in (("a", 0.25, 0.5), ("b", 0.125, 0.75), ("c", None, None)):
        Series.objects.filter(run=make(project, name, 0.5)).update(
            least_value=low, greatest_value=high, last_value=None, last_nonfinite="nan"
        )
    columns = ["min:val/accuracy", "max:val/accuracy"]
    answer = client.get(reverse("runs"), {"column": columns, "sort": "name"})
    rows = answer.context["rows"]
    assert [[(cell.number, cell.text) for cell in row.cells[2:]] for row in rows] == [
        [(0.25, ""), (0.5, "")],
        [(0.125, ""), (0.75, "")],
        [(None, ""), (None, "")],
    ]
    text = answer.content.decode()
    assert "lowest value" in text and "highest value" in text
    offered = re.findall(r'name="column" value="([^"]+)"', page(client, fragment="columns"))
    assert set(columns) <= set(offered)
    assert shown(client, sort="min:val/accuracy") == ["b", "a", "c"]
    assert shown(client, sort="-max:val/accuracy") == ["b", "a", "c"]
    assert shown(client, q="min:val/accuracy < 0.2") == ["b"]
    assert shown(client, q="max:val/accuracy <= 0.5") == ["a"]
    groups = client.get(reverse("runs"), {"column": columns, "group": "project"}).context["bands"]
    assert [(spread.mean, spread.count) for spread in groups[0].group.shown] == [(0.1875, 2), (0.625, 2)]


def test_columns_show_the_last_and_the_best_epoch(project: Project, client: Client) -> None:
    run = make(project, "a", 0.25)
    make(project, "b", 0.5)
    for epoch, accuracy in ((1, 0.875), (2, 0.75)):
        run.epochs.create(
            attempt=1, epoch=epoch, step=epoch, validation_accuracy=accuracy, extra={"f1": 0.5}, at=timezone.now()
        )
    columns = ["epoch:validation_accuracy", "best:validation_accuracy", "epoch:f1", "best:f1"]
    answer = client.get(reverse("runs"), {"column": columns, "sort": "name"})
    first, second = answer.context["rows"]
    # A measure without a known direction has no best value.
    assert [(cell.title, cell.number) for cell in first.cells[2:]] == [
        ("validation_accuracy", 0.75),
        ("validation_accuracy", 0.875),
        ("f1", 0.5),
    ]
    assert [cell.number for cell in second.cells[2:]] == [None, None, None]
    assert "best of all epochs" in answer.content.decode()
    offered = re.findall(r'name="column" value="([^"]+)"', page(client, fragment="columns"))
    assert set(columns[:3]) <= set(offered) and "best:f1" not in offered


def test_the_column_and_the_badge_tell_the_reason_in_the_readers_language(project: Project, client: Client) -> None:
    cause = EndedWithCode(code=3)
    make(project, "a", 0.25, state=RunState.FAILED, reason=cause.words(str), cause=stored(cause))
    row = client.get(reverse("runs"), {"column": "reason"}, headers={"accept-language": "zh-hans"}).context["rows"][0]
    assert row.cells[-1].text == row.reason and "3" in row.reason
    assert row.cells[-1].text != cause.words(str)


def test_the_menu_offers_what_the_runs_that_are_found_have(project: Project, client: Client) -> None:
    make(project, "a", 0.25)
    other = Project.objects.create(name="Other", slug="other")
    Series.objects.create(run=make(other, "secret", 1), name="secret/loss", last_value=1)
    text = page(client, fragment="columns", column="parameter:gone")
    offered = re.findall(r'name="column" value="([^"]+)"( checked)?', text)
    assert ("parameter:lr", "") in offered and ("last:val/accuracy", "") in offered
    assert ("parameter:gone", " checked") in offered
    assert "secret" not in text


def test_the_menu_says_of_how_many_runs_it_has_the_names(project: Project, client: Client) -> None:
    Run.objects.bulk_create(Run(project=project, name="a", parameters={"lr": 1}) for _ in range(NAMED_BY))
    assert "looked-at" not in page(client, fragment="columns")
    make(project, "newest", 0.25)
    assert "of the newest 200 runs" in page(client, fragment="columns")
    assert "looked-at" not in page(client, fragment="columns", q="newest")


def test_comparisons_become_chips_that_can_be_taken_away(project: Project, client: Client) -> None:
    for name, value in (("a", 0.3), ("b", 0.1)):
        make(project, name, value)
    query = {"q": "lr < 0.2 layers = 3", "sort": "name"}
    chips = client.get(reverse("runs"), query).context["chips"]
    assert [chip.text for chip in chips] == ["lr < 0.2", "layers = 3"]
    assert shown(client, **query) == ["b"]
    assert parse_qs(chips[0].query) == {"q": ["layers = 3"], "sort": ["name"]}
    assert shown(client, **parse_qs(chips[0].query)) == ["a", "b"]


def test_a_search_that_is_not_understood_is_told_at_the_table(project: Project, client: Client) -> None:
    make(project, "a", 0.3)
    text = page(client, q="lrr < 0.2")
    assert "“lrr” is not a column, a parameter or a series" in text and 'role="alert"' in text
    assert shown(client, q="lrr < 0.2") == ["a"]


def test_nobody_learns_of_runs_of_others_by_searching(project: Project, client: Client) -> None:
    other = Project.objects.create(name="Other", slug="other")
    hidden = make(other, "secret", 1)
    Series.objects.create(run=hidden, name="hidden/loss", last_value=1)
    assert "is not a column, a parameter or a series" in page(client, q="hidden/loss > 0")
    assert shown(client, q=f"id = {hidden.pk}") == []


def test_live_runs_stand_in_a_band_of_their_own(project: Project, client: Client) -> None:
    make(project, "new", 0.1, state=RunState.FINISHED)
    make(project, "live", 0.1, state=RunState.RUNNING)
    make(project, "newest", 0.1, state=RunState.FAILED, reason="CUDA out of memory")
    text = page(client)
    assert re.findall(r'scope="rowgroup"[^>]*>([^<]+)<', text) == ["Live", "Not live"]
    assert shown(client) == ["live", "newest", "new"]
    assert re.findall(r'data-testid="reason"[^>]*>([^<]+)<', text) == ["CUDA out of memory"]
    assert "rowgroup" not in page(client, state="failed")


def test_a_page_beyond_the_last_is_the_last(project: Project, client: Client) -> None:
    for number in range(26):
        make(project, f"run {number}", number)
    assert len(shown(client, page=99)) == 1
    assert "Page 2 of 2" in page(client, page=2)
    assert re.findall(r'aria-label="Page (\d+)"( aria-current)?', page(client, page=2)) == [
        ("1", ""),
        ("2", " aria-current"),
    ]
    assert ">1 run<" in page(client, q=f"id = {Run.objects.latest('pk').pk}")
    assert "26 to 26 of 26" in page(client, page=99)
    for odd in ("0", "-1", "x", "9" * 30, "²"):
        assert "1 to 25 of 26" in page(client, page=odd)
    assert shown(client, page=3, q="no such run") == []


def test_the_number_of_queries_grows_with_nothing(project: Project, client: Client) -> None:
    query: dict[str, Any] = {
        "q": "run val/accuracy < 2 lr < 100 author != me",
        "sort": "-last:val/accuracy",
        "column": ["host", "parameter:lr", "last:val/accuracy", "progress", "epoch:f1", "best:train_loss"],
    }

    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(reverse("runs"), query)
        return len(queries)

    for number in range(2):
        make(project, f"run {number}", number)
    few = count()
    for number in range(2, 25):
        make(project, f"run {number}", number)
    assert count() == few


def empty(client: Client, **query: Any) -> str:
    text = page(client, **query)
    return " ".join(text[text.index('data-testid="empty"') :].split())


def test_an_empty_list_tells_its_reader_what_they_may_do(project: Project, client: Client) -> None:
    role = Membership.objects.filter(user__username="ada")
    for query in ({}, {"project": "digits"}, {"project": "digits", "q": "a"}):
        text = empty(client, **query)
        assert "No runs yet" in text and "operators and owners create runs" in text, query
        assert "create_run" not in text and "manage.py watch" not in page(client, **query)
    assert "manage.py watch" not in page(client, fragment="queue")
    role.update(role=Role.OPERATOR)
    assert "create_run" in empty(client) and "manage.py watch" in page(client, fragment="queue")
    assert f'href="{reverse("new_run")}"' in empty(client, project="digits")
    # A role in another project allows nothing in this one.
    role.update(role=Role.VIEWER)
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="ada"), role=Role.OWNER)
    assert "Its operators and owners create runs" in empty(client, project="digits")


def test_an_empty_list_tells_whether_the_runs_are_archived_or_do_not_match(project: Project, client: Client) -> None:
    run = make(project, "a", 0.1)
    assert "?project=digits&amp;view=none" in empty(client, project="digits", q="none of them")
    assert "No run is archived" in empty(client, project="digits", archived="on")
    Run.objects.filter(pk=run.pk).update(archived_at=timezone.now())
    text = empty(client, project="digits")
    assert "All runs are archived" in text and "?project=digits&amp;archived=on" in text
    assert "No run matches" in empty(client, project="digits", q="none of them")
