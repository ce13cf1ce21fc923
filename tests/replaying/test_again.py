"""Running a run again, over the API, from the page and in a terminal: who may, and what the new run is and is asked."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpResponse

from runs.commands.record import record
from runs.models import Attempt, CommandState, Run
from runs.protocol.commands import parse_command
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, deliver_command, end_attempt, open_attempt
from tests.branching.test_api import ask as branch_of
from tests.branching.test_api import client, source
from tests.replaying.test_ledger import Story

__all__ = ["source"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def old(source: Run) -> Run:
    """The run with a checkpoint, one change of a knob and one rollback."""
    story = Story.__new__(Story)
    story.lease = Lease(run_id=source.pk, attempt_id=Attempt.objects.get(run=source).pk, number=1)
    source.knobs = []
    source.save()
    story.applied("set_knob", 5, 0.05, knob="learning_rate", value=0.05)
    story.back(15, story.saved(12), 0.05)
    return source


def ask(old: Run, by: str = "operator", **body: Any) -> HttpResponse:
    return client(by).post(f"/api/runs/{old.pk}/again/", json.dumps(body), content_type="application/json")


def asked_of(run: Run) -> list[tuple[Any, ...]]:
    return [
        (each.kind, each.state, each.at_step, each.at_roll_backs, each.author_name)
        for each in run.commands.order_by("sent_at")
    ]


def test_an_operator_runs_a_run_again_and_it_is_given_everything_before_it_starts(old: Run) -> None:
    answer = ask(old, start="queue")
    told = answer.json()
    assert answer.status_code == 201, told
    new = Run.objects.get(pk=told["run"])
    assert told["compare"] == f"/runs/compare/?run={old.pk}&run={new.pk}&baseline={old.pk}"
    same = ("recipe_id", "parameters", "seed", "deterministic", "device", "ranks", "restarts", "gpu_memory_mib")
    assert all(getattr(new, name) == getattr(old, name) for name in same)
    assert (new.name, new.state, new.start_paused, new.cloned_from, new.created_by.username) == (
        "first again", "queued", True, old, "operator",
    )  # fmt: skip
    sent = CommandState.SENT
    assert asked_of(new) == [
        ("set_knob", sent, 5, 0, "operator"),
        ("save_checkpoint", sent, 12, 0, "operator"),
        ("roll_back", sent, 15, 0, "operator"),
        ("resume", sent, None, None, "operator"),
    ]
    copy, back = (new.commands.get(kind=kind).arguments for kind in ("save_checkpoint", "roll_back"))
    assert copy["name"] == back["checkpoint"] == f"replayed {old.checkpoints.get(name='last').pk}"

    plain = Run.objects.get(pk=ask(old, interventions=False, name="plain").json()["run"])
    assert (plain.name, plain.state, plain.start_paused, asked_of(plain)) == ("plain", "created", False, [])


@pytest.mark.parametrize(
    ("by", "body", "status", "sentence"),
    [
        ("viewer", {}, 403, "only operators"),
        ("operator", {"start": "never"}, 422, "start"),
        ("operator", {"who": 1}, 422, "who"),
        ("operator", {"source": 0}, 422, "source"),
        ("operator", {"source": 999_999}, 404, ""),
    ],
)
def test_it_refuses_in_a_sentence(old: Run, by: str, body: dict[str, Any], status: int, sentence: str) -> None:
    answer = ask(old, by, **body)
    assert answer.status_code == status and sentence.lower() in json.dumps(answer.json()).lower(), answer.json()
    assert Run.objects.count() == 1
    assert ask(old, source=old.pk).json() == {
        "error": "This run is not a branch, so a repetition of it cannot begin at a checkpoint of another run: leave "
        "out source.",
        "field": "source",
    }  # fmt: skip


def test_the_same_id_is_the_same_run(old: Run) -> None:
    key = str(uuid4())
    first, second = ask(old, id=key), ask(old, id=key, start="queue")
    assert (first.status_code, second.status_code) == (201, 200), second.json()
    new = Run.objects.get(pk=first.json()["run"])
    assert (second.json()["run"], second.json()["state"], Run.objects.count()) == (new.pk, "created", 2)
    assert len(asked_of(new)) == 4
    other = ask(new, id=key)
    assert (other.status_code, other.json()["field"]) == (409, "id")
    assert ask(old, id="twice").status_code == 422
    # The page gives each form an id, so that one that is submitted twice makes one run.
    operator, address = client("operator"), f"/runs/{old.pk}/again/"
    (given,) = re.findall(r'name="id" value="([0-9a-f-]{36})"', operator.get(address).content.decode())
    places = [operator.post(address, {"id": given, "start": "no"})["Location"] for _ in range(2)]
    assert places[0] == places[1] and Run.objects.count() == 3
    branch = Run.objects.get(pk=branch_of(old, checkpoint="before").json()["run"])
    key = str(uuid4())
    assert [ask(branch, id=key).status_code for _ in range(2)] == [201, 200]


@pytest.mark.parametrize("is_reported", [True, False], ids=["failed", "killed with its supervisor"])
def test_the_next_attempt_gets_what_the_last_one_left(old: Run, is_reported: bool) -> None:
    new = Run.objects.get(pk=ask(old).json()["run"])
    new.commands.filter(kind="resume").delete()
    holder = Holder("host", "boot", 1)
    lease = open_attempt(new.pk, holder, 0, command_line=[])
    arguments = {"knob": "learning_rate", "value": 0.1}
    typed = parse_command({"command": "set_knob", "arguments": arguments, "at": {"step": 50}})
    own = record(new.pk, typed, author_id=None, author_name="Ada")
    for command in new.commands.all():
        assert deliver_command(lease, command)
    if is_reported:
        end_attempt(lease, AttemptEnd("failed", 1))
    lease = open_attempt(new.pk, holder, 1, command_line=[])
    left = {each.pk: (each.state, each.attempt) for each in new.commands.all()}
    assert left.pop(own.pk) == ("expired", 1) and list(left.values()) == [("sent", None)] * 3
    assert all(deliver_command(lease, command) for command in new.commands.exclude(pk=own.pk))
    end_attempt(lease, AttemptEnd("finished", 0))
    assert {each.state for each in new.commands.all()} == {"expired"}


def test_a_branch_is_opened_again_at_its_source_or_at_the_same_place_of_a_run_that_repeats_it(old: Run) -> None:
    made = branch_of(old, checkpoint="before", parameters={"epochs": 5}, knobs={"learning_rate": {"head": 0.01}}).json()
    branch = Run.objects.get(pk=made["run"])
    new = Run.objects.get(pk=ask(branch).json()["run"])
    assert (new.branch.source, new.branch.step, new.parameters, new.start_paused) == (old, 12, branch.parameters, True)
    changes = [[each.as_wire() for each in run.branch.changes.all()] for run in (branch, new)]
    assert changes[0] == changes[1]
    # If the source has removed the checkpoint, the branch still has its copy.
    old.checkpoints.filter(name="before").delete()
    third = Run.objects.get(pk=ask(branch).json()["run"])
    assert (third.branch.source, third.branch.step, third.parameters) == (branch, 12, branch.parameters)
    (change,) = third.branch.changes.all()
    assert (change.name, change.group, change.new) == ("learning_rate", "head", 0.01)
    repeating = Run.objects.get(pk=ask(old).json()["run"])
    refused = ask(branch, source=repeating.pk)
    assert (refused.status_code, refused.json()["field"]) == (409, "source")
    assert refused.json()["error"] == (
        f"Run #{repeating.pk} has not reached the checkpoint of step 12 yet: wait until it has saved that checkpoint."
    )


def test_the_page_says_what_cannot_repeat_and_leads_to_the_new_run_and_that_to_the_comparison(old: Run) -> None:
    Attempt.objects.filter(run=old).update(environment={"git": {"commit": "a" * 40}, "gpus": ["NVIDIA"]})
    operator, address = client("operator"), f"/runs/{old.pk}/again/"
    page = operator.get(address).content.decode()
    assert "The run trained on a GPU without deterministic algorithms" in page
    assert "The run trained with commit aaaaaaaaaa, but the host of this portal has" in page
    assert 'name="source"' not in page and client("viewer").get(address).status_code == 403
    done = operator.post(address, {"name": "twin", "interventions": "on", "start": "now"})
    new = Run.objects.get(name="twin")
    assert done["Location"] == f"/runs/{new.pk}/" and new.state == "queued" and len(asked_of(new)) == 4
    shown = operator.get(done["Location"]).content.decode()
    assert f"/runs/compare/?run={old.pk}&amp;run={new.pk}&amp;baseline={old.pk}" in shown
    assert f'href="/runs/{new.pk}/again/"' in shown
    assert 'data-testid="again"' in operator.get("/").content.decode()
    assert 'data-testid="again"' not in client("viewer").get("/").content.decode()


def test_a_terminal_runs_it_again(old: Run, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("run_again", str(old.pk), "--json", "--user", "owner", "--name", "typed")
    told = json.loads(capsys.readouterr().out)
    new = Run.objects.get(pk=told["run"])
    assert (new.name, told["state"], len(asked_of(new))) == ("typed", "created", 4)
    call_command("run_again", str(old.pk), "--without-interventions")
    assert f"it repeats run {old.pk}." in capsys.readouterr().out
    for words, sentence in (
        (["999"], "run: there is no run 999"),
        ([str(old.pk), "--of", "999"], "--of: there is no run 999"),
        ([str(old.pk), "--of", str(old.pk)], "--of: This run is not a branch"),
        ([str(old.pk), "--user", "viewer"], "--user: viewer may not command"),
        ([str(old.pk), "--user", "nobody"], "--user: there is no active user nobody"),
    ):
        with pytest.raises(CommandError, match=sentence) as refused:
            call_command("run_again", *words)
        assert refused.value.returncode == 2
