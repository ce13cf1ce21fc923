"""Searches: the runs that they find, their order, and the message for a search that cannot be parsed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from runs.models import Attempt, Project, Recipe, Run, RunState, RunTag, Series
from runs.selection.narrowing import narrow
from runs.selection.ordering import ordered, parse_order
from runs.selection.search import Search, Term, parse


@pytest.mark.parametrize(
    ("text", "words", "terms"),
    [
        ("", (), ()),
        ("base line", ("base", "line"), ()),
        ('"base line"', ("base line",), ()),
        ("learning_rate < 1e-3", (), (("learning_rate", "<", "1e-3"),)),
        ("loss<0.1 adam", ("adam",), (("loss", "<", "0.1"),)),
        ("val/accuracy>=0.95", (), (("val/accuracy", ">=", "0.95"),)),
        ('"my name" = "a b"', (), (("my name", "=", "a b"),)),
        ("seed == 3", (), (("seed", "=", "3"),)),
        ('optimizer != "adam"', (), (("optimizer", "!=", "adam"),)),
        ("#12", ("#12",), ()),
        ("a = ", ("a", "="), ()),
        ('"', (), ()),
    ],
)
def test_it_reads_words_and_comparisons(
    text: str, words: tuple[str, ...], terms: tuple[tuple[str, str, str], ...]
) -> None:
    assert parse(text) == Search(words, tuple(Term(*term) for term in terms))


@given(st.text(max_size=200))
def test_any_text_has_a_meaning_that_can_be_written_down(text: str) -> None:
    search = parse(text)
    assert parse(str(search)) == search


USER = "ada"


@pytest.fixture
def project() -> Project:
    return Project.objects.create(name="Digits", slug="digits")


@pytest.fixture
def ada(project: Project) -> User:
    return User.objects.create_user(USER, first_name="Ada", last_name="Lovelace")


@pytest.fixture
def runs(project: Project, ada: User) -> dict[str, Run]:
    recipe = Recipe.objects.create(spec="image-classifier", title="Images")
    other = User.objects.create_user("bob")
    now = timezone.now()

    def make(name: str, parameters: dict[str, Any], **fields: Any) -> Run:
        return Run.objects.create(project=project, name=name, parameters=parameters, **fields)

    made = {
        "alpha": make(
            "alpha",
            {"lr": 0.1, "optimizer": "adam", "amp": True, "a.b": 1, 'q"x': 3, "0": "zero"},
            created_by=ada,
            state=RunState.FINISHED,
            best_metric=0.9,
            trained_s=7_300,
            started_at=now - timedelta(days=9),
            recipe=recipe,
            description="A longer **Warmup** than before",
        ),
        "beta": make(
            "beta",
            {"lr": 1, "learning_rate": 1, "optimizer": "SGD", "amp": False},
            created_by=other,
            state=RunState.FAILED,
            reason="CUDA out of memory",
            trained_s=60,
            started_at=now - timedelta(hours=5),
        ),
        "gamma": make(
            "gamma", {"lr": "auto", "optimizer": None}, created_by=ada, state=RunState.RUNNING, started_at=now
        ),
    }
    Attempt.objects.create(run=made["beta"], number=1, host="gpu-7", boot_id="b", supervisor_pid=1)
    for name, value in (("alpha", 0.25), ("beta", 2.5)):
        Series.objects.create(run=made[name], name="val/accuracy", last_value=value)
        Series.objects.create(run=made[name], name="train/loss", last_value=10 - value)
        RunTag.objects.create(run=made[name], name="baseline")
    RunTag.objects.create(run=made["beta"], name="try 3")
    # Accuracy and loss by run, attempt and epoch. A later attempt superseded the last epoch of alpha.
    for name, attempt, epoch, accuracy, loss in (
        ("alpha", 1, 1, 0.9, 0.15), ("alpha", 1, 2, 0.99, 0.01), ("alpha", 2, 2, 0.7, 0.3), ("beta", 1, 1, 0.85, 0.4),
    ):  # fmt: skip
        made[name].epochs.create(
            attempt=attempt, epoch=epoch, step=epoch, validation_accuracy=accuracy, train_loss=loss, at=now,
            extra={"f1/macro": 0.5} if name == "alpha" else {}, learning_rate=5.0,
        )  # fmt: skip
    return made


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {"alpha", "beta", "gamma"}),
        ("alp", {"alpha"}),
        ("image", {"alpha"}),
        ("al ph", {"alpha"}),
        ("baselin", {"alpha", "beta"}),
        ('"Y 3"', {"beta"}),
        ("GPU-7", {"beta"}),
        ("lovelace", {"alpha", "gamma"}),
        ('"ada love"', {"alpha", "gamma"}),
        ("bob baseline", {"beta"}),
        ("memory", {"beta"}),
        ("warmup", {"alpha"}),
        ("warmup memory", set()),
        ("lr = 0.1", {"alpha"}),
        ("lr < 0.5", {"alpha"}),
        ("lr >= 1", {"beta"}),
        ("lr = auto", {"gamma"}),
        ("lr != 1", {"alpha", "gamma"}),
        ("optimizer = sgd", {"beta"}),
        ("optimizer ~ da", {"alpha"}),
        ("optimizer != adam", {"beta", "gamma"}),
        ("amp = true", {"alpha"}),
        ("amp = false", {"beta"}),
        ("a.b = 1", {"alpha"}),
        ("parameter:0 = zero", {"alpha"}),
        ("val/accuracy > 1", {"beta"}),
        ("last:val/accuracy < 1", {"alpha"}),
        ("loss < 8", {"beta"}),
        ("best > 0.5", {"alpha"}),
        ("validation_accuracy > 0.8", {"beta"}),
        ("best:validation_accuracy > 0.8", {"alpha", "beta"}),
        ("best:train_loss < 0.2", {"alpha"}),
        # A superseded value is not the best.
        ("best:validation_accuracy > 0.95", set()),
        # A parameter of this name takes precedence over the metric of epochs.
        ("learning_rate = 1", {"beta"}),
        ("epoch:learning_rate = 5", {"alpha", "beta"}),
        ("f1/macro = 0.5", {"alpha"}),
        ("epoch:f1/macro > 1", set()),
        ("tag = Baseline", {"alpha", "beta"}),
        ("tag != baseline", {"gamma"}),
        ("tag = base", set()),
        ('tag ~ "y 3"', {"beta"}),
        ("author = me", {"alpha", "gamma"}),
        ("author != me", {"beta"}),
        ('author = "ada lovelace"', {"alpha", "gamma"}),
        ("author = bob", {"beta"}),
        ("state = failed", {"beta"}),
        ("state != failed", {"alpha", "gamma"}),
        ("project = digits", {"alpha", "beta", "gamma"}),
        ("reason ~ memory", {"beta"}),
        ("host = gpu-7", {"beta"}),
        ("duration > 2h", {"alpha"}),
        ("started > 3d", {"beta", "gamma"}),
        ("started < 2100-01-01 state = finished", {"alpha"}),
        ("ranks = 1 lr < 10", {"alpha", "beta"}),
        ('tag = ""', {"gamma"}),
        ('tag != ""', {"alpha", "beta"}),
        ('host = ""', {"alpha", "gamma"}),
        ('optimizer = ""', {"gamma"}),
        ('parameter:amp != ""', {"alpha", "beta"}),
        ('author = ""', set()),
        ('best = ""', {"beta", "gamma"}),
        ('started != ""', {"alpha", "beta", "gamma"}),
        ('last:val/accuracy = ""', {"gamma"}),
    ],
)
def test_it_finds_runs(runs: dict[str, Run], ada: User, text: str, found: set[str]) -> None:
    narrowed = narrow(Run.objects.all(), parse(text), ada)
    assert narrowed.problems == ()
    assert {run.name for run in narrowed.runs} == found


@pytest.mark.django_db
def test_a_word_finds_a_waiting_run_by_the_host_on_which_it_is_to_start(runs: dict[str, Run], ada: User) -> None:
    Run.objects.filter(name="gamma").update(queued_host="gpu-9")
    assert [run.name for run in narrow(Run.objects.all(), parse("PU-9"), ada).runs] == ["gamma"]


@pytest.mark.django_db
def test_a_parameter_may_be_called_as_it_likes(runs: dict[str, Run], ada: User) -> None:
    term = Search((), (Term('parameter:q"x', "=", "3"),))
    assert [run.name for run in narrow(Run.objects.all(), term, ada).runs] == ["alpha"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing < 3", "“nothing” is not a column"),
        ("lr < much", "“much” is not. Write it as 0.001 or 1e-3."),
        ("best < high", "“high” is not"),
        ("state = sleeping", "“sleeping” is not a state. States are: created, queued"),
        ("author < 3", "“author” cannot be compared with <. Use one of = != ~."),
        ("best ~ 3", "“best” cannot be compared with ~"),
        ('best < ""', "“” is not. Write"),
        ("started > yesterday", "Write a date such as 2026-01-31, or a period before now such as 3d."),
        ("started > 2026-13-45", "Write a date such as"),
        ("best > 1e999", "is not. Write"),
        ("id = 99999999999999999999", "is not. Write"),
    ],
)
def test_what_it_does_not_understand_is_told_and_left_out(
    runs: dict[str, Run], ada: User, text: str, said: str
) -> None:
    narrowed = narrow(Run.objects.all(), parse(text), ada)
    (problem,) = narrowed.problems
    assert said in problem
    assert narrowed.runs.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("", ["gamma", "beta", "alpha"]),
        ("name", ["gamma", "alpha", "beta"]),
        ("-loss", ["gamma", "alpha", "beta"]),
        ("loss", ["gamma", "beta", "alpha"]),
        ("parameter:lr", ["gamma", "alpha", "beta"]),
        ("-parameter:lr", ["gamma", "beta", "alpha"]),
        ("parameter:optimizer", ["gamma", "beta", "alpha"]),
        ("last:val/accuracy", ["gamma", "alpha", "beta"]),
        ("-best", ["gamma", "alpha", "beta"]),
        ("-epoch:validation_accuracy", ["gamma", "beta", "alpha"]),
        ("-best:validation_accuracy", ["gamma", "alpha", "beta"]),
        ("epoch:f1/macro", ["gamma", "alpha", "beta"]),
        ("best:f1/macro", ["gamma", "beta", "alpha"]),
        ("host", ["gamma", "beta", "alpha"]),
        ("-tag", ["gamma", "beta", "alpha"]),
        ("progress", ["gamma", "beta", "alpha"]),
        ("no such column", ["gamma", "beta", "alpha"]),
    ],
)
def test_it_sorts_runs_below_those_that_live(runs: dict[str, Run], order: str, names: list[str]) -> None:
    assert [run.name for run in ordered(Run.objects.all(), parse_order(order))] == names


@pytest.mark.django_db
def test_live_runs_come_first_only_where_they_shall(runs: dict[str, Run]) -> None:
    found = ordered(Run.objects.all(), parse_order("name"), live_first=False)
    assert [run.name for run in found] == ["alpha", "beta", "gamma"]
