"""Runs that wait for another run: when they start, the message if they never can, and who may name which run."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import AfterCondition, Host, Project, Role, Run, RunState
from runs.recording.queue import After, claim
from tests.queueing.support import HOST, ask, client_of, created, line, make_project, queued
from trainer.recipe_names import source_sha256


@pytest.fixture
def lab(db: None) -> Project:
    return make_project("lab", Role.OPERATOR)


def end(run: Run, state: RunState) -> None:
    Run.objects.filter(pk=run.pk).update(state=state)


def told(run: Run) -> str:
    return str(client_of("operator-lab").get(f"/api/runs/{run.pk}/place/").json()["place"]["text"])


def test_it_starts_once_the_other_has_finished(lab: Project) -> None:
    first = created(lab, state=RunState.RUNNING)
    second = queued(lab, after=After(first.pk))
    assert line() == []
    assert not claim(second.pk, HOST, ["cpu"]), "a host that looked earlier does not start it either"
    assert told(second) == f"waits until #{first.pk} has finished"
    end(first, RunState.FINISHED)
    assert line() == [second.pk]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.FAILED, "has failed; this run starts if that one is resumed and finishes"),
        (RunState.STOPPED, "was stopped; this run starts if that one is resumed and finishes"),
        (None, "was deleted before it had finished"),
    ],
)
def test_what_will_not_come_true_is_told_with_a_way_on(lab: Project, state: RunState | None, words: str) -> None:
    first = created(lab, state=RunState.RUNNING)
    second = queued(lab, after=After(first.pk))
    anyhow = queued(lab, after=After(first.pk, AfterCondition.ENDED))
    assert told(anyhow) == f"waits until #{first.pk} has ended"
    if state is None:
        first.delete()
    else:
        end(first, state)
    assert line() == [anyhow.pk]
    assert words in told(second)
    client = client_of("operator-lab")
    shown = client.get("/").content.decode()
    assert words in shown and f"Start #{second.pk} anyway" in shown
    assert words in client.get(f"/runs/{second.pk}/").content.decode()
    client.post(f"/runs/{second.pk}/in-queue/", {"command": "start_anyway"})
    assert line() == [second.pk, anyhow.pk]
    assert ask(second, "start_anyway").outcome == "The run does not wait for another run."


def test_only_earlier_runs_that_one_may_see_are_waited_for(lab: Project) -> None:
    hidden, first, later = created(make_project("secret")), created(lab), created(lab)
    client = client_of("operator-lab")

    def queue(run: Run, after: int) -> tuple[int, dict[str, str]]:
        address, body = f"/api/runs/{run.pk}/queue/", {"after": after}
        answer = client.post(address, body, content_type="application/json")
        return answer.status_code, answer.json()

    for run, after, words in (
        (first, later.pk, "earlier one"),
        (first, first.pk, "earlier one"),
        (first, hidden.pk, "There is no run"),
    ):
        status, answer = queue(run, after)
        assert (status, answer["field"]) == (422, "after") and words in answer["error"], answer
    assert queue(first, 10**30)[0] == 422
    status, place = queue(later, first.pk)
    assert status == 200 and place["number"] == 0
    assert place["awaits"] == {"run": first.pk, "state": "created", "condition": "finished"}
    bad_host = client.post(f"/api/runs/{first.pk}/queue/", {"host": "a b"}, content_type="application/json")
    assert bad_host.status_code == 422


def test_the_command_line_queues_after_a_run_and_says_so(lab: Project, settings: object) -> None:
    first = created(lab, state=RunState.RUNNING)
    first.recipe.source_sha256 = source_sha256("digits")  # type: ignore[union-attr]
    first.recipe.save()  # type: ignore[union-attr]

    def make(*options: str) -> str:
        out = StringIO()
        call_command("create_run", "--project", "lab", "--recipe", "digits", *options, stdout=out)
        return out.getvalue()

    said = make("--after", str(first.pk), "--priority", "-2", "--gpu-memory", "10GiB")
    run = Run.objects.latest("pk")
    assert (run.state, run.after_run, run.priority, run.gpu_memory_mib) == ("queued", first.pk, -2, 10240)
    assert said.startswith(f"Run {run.pk} (") and f"once run {first.pk} has finished" in said
    assert "has ended in any way" in make("--after", str(first.pk), "--after-condition", "ended")
    assert make("--quiet", "--queue") == f"{Run.objects.latest('pk').pk}\n"
    settings.STEERSMAN_PUBLIC_URL = "https://steersman.example"  # type: ignore[attr-defined]
    said = make()
    number = Run.objects.latest("pk").pk
    assert f"https://steersman.example/runs/{number}/" in said and f"train --run-id {number}" in said
    before = Run.objects.count()
    for options, words in (
        (("--after", "0"), "after: "),
        (("--after", "999"), "after: "),
        (("--priority", "-1"), "priority: only valid with --queue"),
        (("--queue", "--priority", "11"), "whole number from -10 to 10"),
        (("--gpu-memory", "much"), "10GiB or 800MiB"),
    ):
        with pytest.raises(CommandError, match=words):
            make(*options)
    assert Run.objects.count() == before


def test_the_form_queues_after_a_run(lab: Project) -> None:
    first = created(lab, state=RunState.RUNNING)
    Host.objects.create(name=HOST, heartbeat_at=timezone.now(), devices=[{"device": "cpu", "title": "CPU"}])
    client = client_of("operator-lab")
    form = {
        "project": "lab", "recipe": "digits", "shown": "digits", "name": "next", "seed": "1", "place": "gpu1/cpu",
        "restarts": "0", "ranks": "1", "gpu_memory": "1.5 GiB", "after": str(first.pk), "after_condition": "ended",
    }  # fmt: skip
    refused = client.post("/runs/new/", form).content.decode()
    assert "Only a queued run can wait for another run" in refused
    answer = client.post("/runs/new/", form | {"queue": "1"})
    run = Run.objects.latest("pk")
    assert answer.status_code == 302, answer.content.decode()
    assert (run.after_run, run.after_condition, run.gpu_memory_mib) == (first.pk, "ended", 1536)


def test_the_strip_shows_each_reader_what_they_may_see_in_the_same_number_of_queries(lab: Project) -> None:
    secret = make_project("secret", Role.VIEWER)
    client = client_of("operator-lab")
    address = "/?fragment=queue"
    assert "No scheduler is running on any host" in client.get(address).content.decode()
    queued(secret, HOST, name="hush")
    mine = queued(lab, HOST, name="mine")
    with CaptureQueriesContext(connection) as few:
        shown = client.get(address).content.decode()
    assert "hush" not in shown and "1 run of another project waits" in shown
    assert f"Move #{mine.pk} to the front" in shown
    for number in range(12):
        queued(lab, HOST, name=f"more {number}")
        queued(secret, HOST, name="hush", after=After(mine.pk))
    with CaptureQueriesContext(connection) as many:
        shown = client.get(address).content.decode()
    # One more query: the states of the runs that others wait for.
    assert len(many) <= len(few) + 1
    assert "13 runs of other projects wait" in shown and "5 more wait" in shown
    theirs = client_of("viewer-secret").get(address).content.decode()
    assert "a run that you may not see" in theirs and f"#{mine.pk}" not in theirs
    assert "move_to_front" not in theirs, "viewers order nothing"
