"""What people wrote with commands, as HTML: who gets it, what it contains, and what it costs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.access.tokens import create_token
from runs.models import Command, Membership, Project, Run, TokenScope, as_wire
from runs.protocol.causes import OfLink, stored

pytestmark = pytest.mark.django_db

HOSTILE = '<script>a()</script> <img src=x onerror=a()> [x](javascript:a()) [y](https://a.example "t\\" onclick=a()")'


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "owner"):
        Membership.objects.create(project=project, user=User.objects.create(username=name), role=name)
    User.objects.create(username="stranger")
    return Run.objects.create(project=project, name="first")


@pytest.fixture
def viewer(run: Run) -> Client:
    return client_of("viewer")


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def sent(run: Run, kind: str = "note", **fields: Any) -> Command:
    arguments = {"text": "**bold**"} if kind == "note" else {}
    told = {"kind": kind, "arguments": arguments, "author_name": "Ada", "sent_at": timezone.now()}
    return Command.objects.create(run=run, **(told | fields))


def html_of(client: Client, run: Run, *commands: Command) -> Any:
    return client.get(f"/api/runs/{run.pk}/commands/html/", {"command": [str(each.pk) for each in commands]})


def test_a_note_and_a_reason_are_html_here_and_text_elsewhere(run: Run, viewer: Client) -> None:
    note = sent(run)
    stop = sent(run, "stop", reason="see [log](https://a.example)")
    found = {each["id"]: each for each in html_of(viewer, run, note, stop).json()["items"]}
    assert found[str(note.pk)] == {"id": str(note.pk), "note": "<p><strong>bold</strong></p>", "reason": ""}
    assert found[str(stop.pk)]["note"] == ""
    link = '<a href="https://a.example" rel="noopener noreferrer nofollow">log</a>'
    assert found[str(stop.pk)]["reason"] == f"<p>see {link}</p>"
    listed = viewer.get(f"/api/runs/{run.pk}/commands/").json()["items"]
    assert [listed[0]["reason"], listed[1]["arguments"]] == ["see [log](https://a.example)", {"text": "**bold**"}]
    assert as_wire(note)["arguments"] == {"text": "**bold**"}


def test_hostile_texts_are_harmless(run: Run, viewer: Client) -> None:
    wide = f"{'|a' * 333}\n{'|-' * 333}\n" + "a\n" * 330
    nested = f"{'>' * 900} {'- ' * 400}x"
    for text in (HOSTILE, wide, nested):
        found = html_of(viewer, run, sent(run, arguments={"text": text}, reason=HOSTILE)).json()["items"][0]
        for html in (found["note"], found["reason"]):
            assert len(html) < 30 * len(text) + 1000
            for tag in html.split("<")[1:]:
                inside = tag.partition(">")[0].split('title="')[0]
                assert not inside.startswith(("script", "img")), html
                assert " on" not in inside and "javascript:" not in inside, html


def test_the_reason_of_a_link_is_no_text_of_a_person(run: Run, viewer: Client) -> None:
    cause = OfLink(alert=1, detector="spike", title="Spike", destination="*Ada*")
    command = sent(run, "stop", reason=str(cause), cause=stored(cause))
    assert html_of(viewer, run, command).json()["items"][0]["reason"] == ""


def test_it_is_for_those_who_see_the_run(run: Run, viewer: Client) -> None:
    command = sent(run)
    other = Run.objects.create(project=Project.objects.create(name="Other", slug="other"), name="other")
    hidden = sent(other)
    assert html_of(client_of("stranger"), run, command).status_code == 404
    assert html_of(Client(), run, command).status_code == 401
    assert html_of(viewer, other, hidden).status_code == 404
    assert html_of(viewer, run, hidden).json() == {"items": []}
    _, key = create_token(User.objects.get(username="owner"), run.project, TokenScope.SHARE, name="guest", run=run)
    guest = Client(headers={"Authorization": f"Bearer {key}"})
    assert html_of(guest, run, command).json()["items"][0]["note"] == "<p><strong>bold</strong></p>"
    assert "Ada" not in html_of(guest, run, command).content.decode()


def test_it_takes_a_bounded_number_of_ids(run: Run, viewer: Client) -> None:
    address = f"/api/runs/{run.pk}/commands/html/"
    for wrong in ({}, {"command": "7"}, {"command": [str(uuid4()) for _ in range(21)]}):
        answer = viewer.get(address, wrong)
        assert answer.status_code == 422 and answer.json()["field"] == "command", wrong


def test_many_commands_cost_as_many_queries_as_one(run: Run, viewer: Client, django_assert_num_queries: Any) -> None:
    commands = [sent(run, reason="`x`") for _ in range(20)]
    for asked in (commands[:1], commands):
        with django_assert_num_queries(4):
            assert len(html_of(viewer, run, *asked).json()["items"]) == len(asked)
