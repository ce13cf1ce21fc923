"""Which run starts first, who may change the order, and that concurrent changes leave one consistent order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from runs.models import Command, Project, Role, Run, RunState, StoredEvent
from runs.recording import queue_order
from runs.recording.lifecycle import Fenced, Holder, open_attempt
from runs.recording.queue import claim
from tests.queueing.support import HOST, ask, client_of, line, make_project, queued


@pytest.fixture
def lab(db: None) -> Project:
    return make_project("lab", Role.VIEWER, Role.OPERATOR)


@pytest.fixture
def other(db: None) -> Project:
    return make_project("other", Role.OPERATOR)


def test_a_higher_priority_starts_first_and_only_administrators_give_one_above_0(lab: Project, other: Project) -> None:
    theirs, first, second = queued(other), queued(lab), queued(lab)
    assert ask(first, "set_priority", priority=-1).state == "applied"
    assert line() == [theirs.pk, second.pk, first.pk]
    refused = ask(second, "set_priority", priority=1)
    assert refused.state == "refused" and "Only an administrator" in refused.outcome
    raised = ask(second, "set_priority", may_push=True, priority=1)
    assert (raised.state, raised.old_value, raised.new_value) == ("applied", 0, 1)
    assert line() == [second.pk, theirs.pk, first.pk]


def test_who_moves_to_the_front_goes_before_their_own_project_and_nobody_else_loses_a_place(
    lab: Project, other: Project
) -> None:
    first, theirs, second, third = queued(lab), queued(other), queued(lab), queued(lab)
    assert ask(third, "move_to_front").state == "applied"
    assert line() == [third.pk, theirs.pk, first.pk, second.pk]
    again = ask(third, "move_to_front")
    assert (again.state, again.outcome) == ("refused", "None of the runs ahead of this one may be overtaken.")
    # An administrator's run moves before all others, which keep their order.
    assert ask(second, "move_to_front", may_push=True).state == "applied"
    assert line() == [second.pk, third.pk, theirs.pk, first.pk]


def test_a_run_that_waits_for_another_host_hands_no_place_on(lab: Project, other: Project) -> None:
    elsewhere, theirs, mine = queued(lab, "gpu2"), queued(other, HOST), queued(lab, HOST)
    assert ask(mine, "move_to_front").state == "refused"
    assert line() == [theirs.pk, mine.pk]
    assert line("gpu2") == [elsewhere.pk]


def test_a_run_that_is_withdrawn_while_the_queue_starts_it_does_not_start(lab: Project) -> None:
    run = queued(lab, HOST)
    assert claim(run.pk, HOST, ["cpu"])
    assert ask(run, "withdraw").state == "applied"
    assert not claim(run.pk, HOST, ["cpu"])
    with pytest.raises(Fenced, match="taken out of the queue"):
        open_attempt(run.pk, Holder(HOST, "boot", 1), 0, command_line=[], given_devices=["cpu"])
    run.refresh_from_db()
    assert (run.state, run.priority, run.given_devices) == (RunState.CREATED, 0, [])
    assert ask(run, "move_to_front").outcome == "The run is created."


def test_what_is_being_started_is_not_ordered_any_more(lab: Project) -> None:
    first, second = queued(lab, HOST), queued(lab, HOST)
    claim(first.pk, HOST, ["cpu"])
    assert ask(first, "set_priority", priority=-5).outcome.startswith("The run is not waiting in the queue")
    assert ask(second, "move_to_front").state == "refused"


def test_page_and_api_order_for_operators_alone_and_the_ledger_names_them(lab: Project) -> None:
    first, second = queued(lab), queued(lab)
    address = f"/runs/{second.pk}/in-queue/"
    assert client_of("viewer-lab").post(address, {"command": "move_to_front"}).status_code == 403
    answer = client_of("operator-lab").post(address, {"command": "move_to_front", "from_list": "1"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert line() == [second.pk, first.pk]
    command = Command.objects.get()
    assert (command.kind, command.state, command.author_name) == ("move_to_front", "applied", "operator-lab")
    assert StoredEvent.objects.filter(run=second, kind="command").exists()
    api = f"/api/runs/{first.pk}/commands/"
    asked = {"command": "set_priority", "arguments": {"priority": 3}}
    refused = client_of("operator-lab").post(api, asked, content_type="application/json").json()
    assert refused["state"] == "refused", refused
    assert client_of("operator-lab").post(address, {"command": "stop"}).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_many_who_order_one_line_at_once_leave_every_run_one_place(lab: Project) -> None:
    """Moves, withdrawals and starts happen concurrently: no run is lost, and none is both started and withdrawn."""
    runs = [queued(lab, HOST) for _ in range(6)]
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def work(do: Callable[[Run], object], of: list[Run]) -> None:
        try:
            together.wait(60)
            for run in of:
                do(run)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    claimed: list[int] = []
    jobs: list[tuple[Callable[[Run], object], list[Run]]] = [
        (lambda run: ask(run, "move_to_front"), runs[::-1]),
        (lambda run: ask(run, "move_to_front"), runs),
        (lambda run: ask(run, "withdraw"), runs[:2]),
        (lambda run: claim(run.pk, HOST, ["cpu"]) and claimed.append(run.pk), runs[:1]),
    ]
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    rows = {run.pk: run for run in Run.objects.all()}
    assert {rows[run.pk].state for run in runs[:2]} == {RunState.CREATED}
    assert [rows[run.pk].given_devices for run in runs[:2]] == [[], []], "who was withdrawn holds nothing"
    assert sorted(line()) == [run.pk for run in runs[2:]]
    places = [rows[run.pk].line_at or rows[run.pk].queued_at for run in runs[2:]]
    assert len(set(places)) == 4, "two runs hold one place"
    assert queue_order.set_priority(rows[runs[3].pk], -1)
    assert line()[-1] == runs[3].pk
