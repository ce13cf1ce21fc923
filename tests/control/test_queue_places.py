"""The place of a queued run in line, as each reader sees it, and the runs that hold the slots of a host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone, translation

from runs.access.tokens import create_token
from runs.commands.record import record
from runs.models import (
    COMMAND_LINE,
    Attempt,
    Command,
    Host,
    Membership,
    Project,
    Recipe,
    Role,
    Run,
    RunState,
    TokenScope,
)
from runs.protocol.commands import parse_command
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, end_attempt, open_attempt
from runs.recording.queue import claim, enqueue, queue_restart
from runs.recording.queue_places import QueuePlace, ordinal
from steersman.agent.folders import WorkerProcess, attempt_folder
from trainer.scheduler import host_slots

pytestmark = pytest.mark.django_db
A, B = "GPU-aaaa", "GPU-bbbb"
HOST = "gpu1"
Make = Callable[..., Run]


@pytest.fixture
def lab() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create(username=role), role=role)
    devices = [{"device": "cpu", "title": "CPU"}, {"device": "cuda:0", "title": "Stub", "uuid": A}]
    Host.objects.create(name=HOST, heartbeat_at=timezone.now(), devices=devices)
    return project


@pytest.fixture
def secret() -> Project:
    return Project.objects.create(name="Secret", slug="secret")


def queued(project: Project, device: str = "auto", host: str = HOST, **fields: object) -> Run:
    recipe, _ = Recipe.objects.get_or_create(spec="digits", title="Digits")
    run = Run.objects.create(project=project, name="run", recipe=recipe, device=device, **fields)
    enqueue(run.pk, host)
    return Run.objects.get(pk=run.pk)


def ask(run: Run, words: str, may_push: bool = False, **arguments: object) -> Command:
    """Send a command to a waiting run, and return the command's current row."""
    request = parse_command({"command": words, "arguments": arguments})
    command = record(run.pk, request, author_id=None, author_name=COMMAND_LINE, may_push=may_push)
    command.refresh_from_db()
    return command


def withdraw(run_id: int) -> None:
    assert ask(Run.objects.get(pk=run_id), "withdraw").state == "applied"


def viewer(name: str = "viewer") -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def text_of(run: Run, client: Client) -> str | None:
    place = client.get(f"/api/runs/{run.pk}/place/").json()["place"]
    return place and str(place["text"])


# The announced place


def test_the_page_says_which_place_a_run_has_and_after_whom(lab: Project) -> None:
    first, second, third = (queued(lab) for _ in range(3))
    client = viewer()
    assert text_of(first, client) == "1st in line for cuda:0 on gpu1"
    assert text_of(second, client) == f"2nd in line for cuda:0 on gpu1, after #{first.pk}"
    sentence = f"3rd in line for cuda:0 on gpu1, after #{first.pk} and #{second.pk}"
    assert text_of(third, client) == sentence
    assert sentence in client.get(third.get_absolute_url()).content.decode()
    listed = client.get("/").content.decode()
    assert "3rd in line" in listed and sentence in listed
    # The run moves up, and a run that has started no longer waits.
    claim(first.pk, HOST, [A])
    assert text_of(first, client) is None
    assert text_of(third, client) == f"2nd in line for cuda:0 on gpu1, after #{second.pk}"
    withdraw(second.pk)
    assert text_of(third, client) == "1st in line for cuda:0 on gpu1"


def test_who_may_not_see_the_others_learns_only_how_many_there_are(lab: Project, secret: Project) -> None:
    others = [queued(secret) for _ in range(2)]
    own, last = queued(lab), queued(lab)
    sentences = [text_of(own, viewer()), text_of(last, viewer())]
    assert sentences == [
        "3rd in line for cuda:0 on gpu1, after 2 others",
        f"4th in line for cuda:0 on gpu1, after #{own.pk} and 2 other runs",
    ]
    operator = User.objects.get(username="operator")
    key = create_token(operator, lab, TokenScope.VIEW, name="script")[1]
    answer = Client().get(f"/api/runs/{last.pk}/", headers={"Authorization": f"Bearer {key}"}).json()
    assert answer["place"] == {
        "number": 4, "device": "cuda:0", "ranks": 1, "host": HOST, "after": [own.pk], "hidden": 2, "text": sentences[1],
        "priority": 0, "why": "", "awaits": None, "stuck": False, "agent": "",
    }  # fmt: skip
    link = create_token(operator, lab, TokenScope.SHARE, name="share", run=last)[1]
    for address in (f"/api/runs/{last.pk}/place/", f"/share/{link}/"):
        shown = Client().get(address, headers={"Authorization": f"Bearer {link}"}).content.decode()
        assert "4th in line for cuda:0, after 3 others" in shown
        assert not any(f"#{other.pk}<" in shown or f"#{other.pk} and" in shown for other in [*others, own])


def test_a_token_for_one_run_learns_no_other(lab: Project) -> None:
    queued(lab)
    run = queued(lab)
    operator = User.objects.get(username="operator")
    key = create_token(operator, lab, TokenScope.VIEW, name="one", run=run)[1]
    items = Client().get("/api/runs/", headers={"Authorization": f"Bearer {key}"}).json()["items"]
    assert [item["place"]["text"] for item in items] == ["2nd in line for cuda:0 on gpu1, after 1 other"]


def test_the_list_asks_as_many_queries_for_many_that_wait_as_for_one(
    lab: Project, django_assert_max_num_queries: Callable[..., object]
) -> None:
    queued(lab)
    client = viewer()
    client.get("/")
    with django_assert_max_num_queries(19) as first:  # type: ignore[attr-defined]
        client.get("/")
    for _ in range(10):
        queued(lab)
    with django_assert_max_num_queries(len(first)):  # type: ignore[attr-defined]
        client.get("/")


def test_the_form_of_a_new_run_says_how_many_wait(lab: Project) -> None:
    for _ in range(2):
        queued(lab)
    assert "2 runs wait" in viewer("operator").get("/runs/new/").content.decode()


@pytest.mark.parametrize(
    "place, text",
    [
        (QueuePlace(1, "cuda", 4, "", [], 0), "1st in line for 4 GPUs on any host"),
        (QueuePlace(2, "cuda", 1, "", [7], 0), "2nd in line for a GPU on any host, after #7"),
        (QueuePlace(2, "cpu", 4, "h", [], 1), "2nd in line for the CPU on h, after 1 other"),
        (QueuePlace(5, "cpu", 1, "h", [1, 2, 3, 4], 0), "5th in line for the CPU on h, after #1, #2 and 2 other runs"),
        (QueuePlace(1, "auto", 1, "h", [], 0), "1st in line for a GPU or the CPU on h"),
        (QueuePlace(4, "cpu", 1, "h", [1, 2, 3], 0), "4th in line for the CPU on h, after #1, #2 and #3"),
    ],
)  # fmt: skip
def test_it_says_for_what_it_waits(place: QueuePlace, text: str) -> None:
    assert place.sentence == text


def test_ordinals_are_english_in_english_and_chinese_in_chinese() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 113)
    assert [ordinal(number) for number in numbers] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "113th",
    ]  # fmt: skip
    with translation.override("zh-hans"):
        assert ordinal(3) == "第 3 位"
        assert (
            QueuePlace(3, "cuda:0", 1, "gpu1", [41, 44], 0).sentence
            == "在gpu1上等候cuda:0，排第 3 位，前面有 #41 和 #44"
        )


@pytest.mark.parametrize("value", ["-1", "two", "65", "", "1.5"])
def test_a_bad_number_of_slots_names_its_setting(value: str, tmp_path: Path) -> None:
    environment = os.environ | {"STEERSMAN_CPU_SLOTS": value, "STEERSMAN_DATA": str(tmp_path)}
    command = [sys.executable, "manage.py", "watch", "--help"]
    answer = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)
    assert answer.returncode and "STEERSMAN_CPU_SLOTS" in answer.stderr


# Runs that hold slots


def starts(
    started: tuple[int, ...] = (), held: tuple[int, ...] = (), gpus: list[str] | None = None
) -> dict[int, tuple[str, ...]]:
    found = host_slots.next_to_start(
        HOST, [A, B] if gpus is None else gpus, started=started, put_off=(), is_held=lambda run_id: run_id in held
    )
    return {beginning.run.pk: beginning.devices for beginning in found}


def begin(run: Run, devices: tuple[str, ...] = (), **fields: object) -> Attempt:
    if devices:
        claim(run.pk, HOST, devices)
    lease = open_attempt(run.pk, Holder(HOST, "boot", 1), run.attempt, command_line=[], given_devices=devices)
    Attempt.objects.filter(pk=lease.attempt_id).update(**fields)
    return Attempt.objects.get(pk=lease.attempt_id)


def test_what_was_given_to_a_run_is_held_from_its_claim_to_its_end(lab: Project) -> None:
    first, second, third = queued(lab), queued(lab), queued(lab)
    assert starts() == {first.pk: (A,), second.pk: (B,)}
    claim(first.pk, HOST, [A])
    claim(second.pk, HOST, [B])
    # This watch or the previous one started its `train`, so the run has the lock.
    assert starts(started=(first.pk,), held=(second.pk,)) == {}
    attempt = begin(first, (A,))
    assert starts(held=(second.pk,)) == {}
    Run.objects.filter(pk=first.pk).update(state=RunState.PAUSED)
    assert starts(held=(second.pk,)) == {}
    end_attempt(lease_of(attempt), AttemptEnd(RunState.FINISHED))
    assert starts(held=(second.pk,)) == {third.pk: (A,)}


def lease_of(attempt: Attempt) -> Lease:
    return Lease(attempt.run_id, attempt.pk, attempt.number)


def test_a_run_that_a_person_started_holds_its_gpu_from_the_queue(lab: Project) -> None:
    by_hand, waiting = queued(lab), queued(lab)
    begin(by_hand, environment={"gpu_uuids": ["bbbb"], "device": "cuda:1"})
    queued(lab)
    assert starts() == {waiting.pk: (A,)}


def test_a_claim_of_a_watch_that_died_before_it_started_anything_holds_nothing(lab: Project) -> None:
    run = queued(lab)
    claim(run.pk, HOST, [A])
    assert starts() == {run.pk: (A,)}
    # The run is not assigned another device either: the `train` of that watch may be about to begin.
    behind = queued(lab)
    claim(run.pk, HOST, [B])
    assert starts() == {run.pk: (B,), behind.pk: (A,)}
    # If its device is taken or missing, the run waits in line like any other.
    by_hand = queued(lab, "cuda:1")
    begin(by_hand)
    assert starts() == {run.pk: (A,)}


def test_a_lost_run_holds_its_device_while_a_process_of_it_lives(lab: Project) -> None:
    lost, waiting = queued(lab, "cuda:0"), queued(lab, "cuda:0")
    begin(lost, (A,))
    Run.objects.filter(pk=lost.pk).update(state=RunState.LOST)
    assert starts() == {waiting.pk: (A,)}
    assert starts(held=(lost.pk,)) == {}
    folder = attempt_folder(settings.STEERSMAN_DATA, lost.pk, 1)
    folder.mkdir(parents=True)
    WorkerProcess.of(os.getpid()).record(folder)
    assert starts() == {}


def test_a_share_link_names_no_host(lab: Project) -> None:
    first, second = queued(lab), queued(lab)
    operator = User.objects.get(username="operator")
    for run, sentence in ((first, "1st in line for cuda:0"), (second, "2nd in line for cuda:0, after 1 other")):
        link = create_token(operator, lab, TokenScope.SHARE, name="share", run=run)[1]
        place = Client(headers={"Authorization": f"Bearer {link}"}).get(f"/api/runs/{run.pk}/place/").json()["place"]
        assert (place["host"], place["text"]) == ("", sentence)
        page = Client().get(f"/share/{link}/").content.decode()
        assert f">{sentence}</span>" in page and HOST not in page
    assert text_of(first, viewer()) == "1st in line for cuda:0 on gpu1"


def test_a_run_that_waits_to_start_again_keeps_its_device(lab: Project) -> None:
    failed, waiting = queued(lab, "cuda:0", restarts=3), queued(lab, "cuda:0")
    attempt = begin(failed, (A,))
    end_attempt(lease_of(attempt), AttemptEnd(RunState.FAILED))
    queue_restart(failed.pk, HOST, 60.0, "why")
    assert starts() == {} and text_of(waiting, viewer()) == "1st in line for cuda:0 on gpu1"
    # Its supervisor was killed while it waited: the watch starts the run on the same device.
    Run.objects.filter(pk=failed.pk).update(queued_at=timezone.now() - timedelta(seconds=1))
    assert starts() == {failed.pk: (A,)}
    assert starts(held=(failed.pk,)) == {}


def test_what_trains_on_another_host_holds_nothing_here(lab: Project) -> None:
    elsewhere, here = queued(lab, host=""), queued(lab, "cuda:0")
    claim(elsewhere.pk, "gpu2", [A])
    open_attempt(elsewhere.pk, Holder("gpu2", "boot", 1), 0, command_line=[], given_devices=[A])
    assert starts() == {here.pk: (A,)}


def test_ranks_of_another_node_hold_the_gpus_of_this_one_that_they_told_of(lab: Project) -> None:
    spread, here = queued(lab, host=""), queued(lab)
    lease = open_attempt(spread.pk, Holder("gpu2", "boot", 1), 0, command_line=[], ranks=2, launch="job")
    assert starts() == {here.pk: (A,)}
    Attempt.objects.filter(pk=lease.attempt_id).update(environment={"gpu_uuids": ["cccc", "aaaa"]})
    assert starts() == {here.pk: (B,)}


def test_until_the_driver_has_answered_only_the_cpu_is_given(lab: Project) -> None:
    queued(lab)
    on_cpu = queued(lab, "cpu")
    found = host_slots.next_to_start(HOST, None, started=(), put_off=(), is_held=lambda _: False)
    assert {beginning.run.pk: beginning.devices for beginning in found} == {on_cpu.pk: ("cpu",)}


def test_the_admin_overrules_the_setting(lab: Project) -> None:
    runs = [queued(lab) for _ in range(3)]
    Host.objects.update(slots_per_device=2)
    assert starts(gpus=[A]) == {runs[0].pk: (A,), runs[1].pk: (A,)}
    Host.objects.update(slots_per_device=0)
    assert starts() == {}
