"""The command log in the admin: complete, exportable, and commands are sent after a confirmation."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from runs.models import Attempt, Checkpoint, Command, CommandState, Membership, Project, Run, RunState
from runs.protocol.causes import OfLink, stored
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.admin.test_admin import RUNS, queries_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RATE = ValueSpec("rate", "float", 1e-6, 1.0, scale="log", unit="1/step", help="How far a step goes.", groups=("a", "b"))


@pytest.fixture(autouse=True)
def no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.recording.announcer.send", lambda group, message: None)


@pytest.fixture
def run(project: Project) -> Run:
    knobs = [Knob(RATE, {"a": 0.1, "b": 0.2}, effective=lambda group: 0.05).to_wire()]
    return Run.objects.create(
        project=project, name="wide", state=RunState.RUNNING, attempt=1, step=10, knobs=knobs, restarts=3,
        restarts_used=2,
        handled_commands=["evaluate", "extend", "save_checkpoint"],
    )  # fmt: skip


def applied(run: Run, **fields: Any) -> Command:
    told: dict[str, Any] = {
        "kind": "set_knob", "arguments": {"knob": "rate", "value": 0.25, "factor": None, "group": "a"},
        "author_name": "Olga", "reason": "it diverges", "state": CommandState.APPLIED, "step": 12, "ranks": 4,
        "old_value": 0.1, "new_value": 0.25, "effective_value": 0.125, "at_step": 12, "expected_state": "running",
        "expected_value": 0.1, "expires_at": NOON + timedelta(hours=1), "sent_at": NOON, "attempt": 1,
        "delivered_at": NOON + timedelta(seconds=1), "applied_at": NOON + timedelta(seconds=2),
    }  # fmt: skip
    return Command.objects.create(run=run, **(told | fields))


def text_of(client: Client, run: Run) -> str:
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_it_shows_the_whole_of_a_command(client: Client, run: Run) -> None:
    applied(run)
    applied(run, kind="note", arguments={"text": "looks good"}, old_value=None, new_value=None, effective_value=None)
    text = text_of(client, run)
    for shown in (
        "rate [a] = 0.25", "Olga", "applied", " 12 4 0.1 → 0.25 0.125 it diverges", "at step 12, only while running",
        "only if it is 0.1", "until 2026-01-01 13:00:00", "12:00:00 2026-01-01 12:00:01 2026-01-01 12:00:02",
        "note looks good",
    ):  # fmt: skip
        assert shown in text, shown


def test_notes_and_reasons_of_people_are_markdown(client: Client, run: Run) -> None:
    applied(run, kind="note", arguments={"text": "**looks** good\n\n- [log](https://a.example)"}, reason="see *this*")
    cause = OfLink(alert=1, detector="spike", title="*Spike*", destination="chat")
    applied(run, kind="stop", arguments={}, reason=str(cause), cause=stored(cause))
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "<strong>looks</strong> good" in page and "see <em>this</em>" in page
    assert '<a href="https://a.example" rel="noopener noreferrer nofollow">log</a>' in page
    assert "Alert 1: *Spike* · by a link sent to chat" in page


def test_hostile_markdown_stays_harmless(client: Client, run: Run) -> None:
    hostile = "<script>harm()</script> <img src=x onerror=harm()> [x](javascript:harm()) ![y](https://a.example/p.png)"
    wide = f"{'|a' * 333}\n{'|-' * 333}\n" + "a\n" * 330
    before = len(client.get(f"{RUNS}{run.pk}/change/").content)
    for text in (hostile, wide, ">" * 2000):
        applied(run, kind="note", arguments={"text": text}, reason=hostile)
    Run.objects.filter(pk=run.pk).update(review_note=hostile)
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "&lt;script&gt;harm()&lt;/script&gt;" in page and len(page) < before + 60_000
    for inside in re.findall(r"<([^>]*harm[^>]*|[^>]*a\.example/p\.png[^>]*)>", page):
        assert inside.startswith('a href="https://a.example/p.png"'), inside


def test_it_shows_knobs_checkpoints_and_attempts(client: Client, run: Run) -> None:
    Checkpoint.objects.create(
        run=run, attempt=1, step=10, epoch=1, name="before", path="p", size_bytes=5, sha256="ab" * 32, reason="named",
        metrics={"validation_loss": 0.5}, created_at=NOON,
    )  # fmt: skip
    Attempt.objects.create(
        run=run, number=2, host="h", boot_id="b", supervisor_pid=1, ranks=4, last_step=77, resumed_step=40, adoptions=1
    )
    text = text_of(client, run)
    for shown in (
        '"a": 0.1, "b": 0.2'.replace('"', "&quot;"), "a number from 0.000001 to 1 1/step How far a step goes.",
        "before named 1 10 1",
        "validation_loss 0.5", "resumed from step 40", "last step 77", "ranks 4", "adoptions 1",
        "2 of 3 restarts used",
    ):  # fmt: skip
        assert shown in text, shown


def test_the_page_costs_the_same_for_many_commands(client: Client, run: Run) -> None:
    applied(run)
    few = queries_of(client, f"{RUNS}{run.pk}/change/")
    for _ in range(30):
        applied(run)
    assert queries_of(client, f"{RUNS}{run.pk}/change/") == few


def test_the_command_log_is_exported_so_that_it_can_be_replayed(client: Client, run: Run) -> None:
    kept = applied(run, author_name="=1+1")
    applied(run, kind="extend", arguments={"epochs": 2}, old_value=3, new_value={"a": 1}, sent_at=NOON - timedelta(1))
    answer = client.get(f"{RUNS}{run.pk}/export/commands.csv")
    assert f'filename="run-{run.pk}-commands.csv"' in answer["Content-Disposition"]
    extend, knob = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert (extend["command"], extend["arguments"], extend["new"]) == ("extend", '{"epochs": 2}', '{"a": 1}')
    assert knob["id"] == str(kept.pk) and knob["author"] == "'=1+1"
    assert (knob["step"], knob["old"], knob["new"], knob["effective"]) == ("12", "0.1", "0.25", "0.125")
    assert (knob["at_step"], knob["expected_value"], knob["ranks"]) == ("12", "0.1", "4")
    assert knob["applied_at"] == "2026-01-01T12:00:02+00:00" and knob["reason"] == "it diverges"
    chosen = {"action": "export_commands", "_selected_action": [run.pk]}
    assert b"".join(client.post(RUNS, chosen).streaming_content).count(b"\r\n") == 3


def address(run: Run) -> str:
    return f"{RUNS}{run.pk}/command/"


def test_it_sends_what_was_confirmed_once(client: Client, ada: User, run: Run) -> None:
    assert address(run) in client.get(f"{RUNS}{run.pk}/change/").content.decode()
    page = client.get(address(run)).content.decode()
    assert "set_knob learning_rate*=0.5" in page and "save_checkpoint" in page and "How far a step goes." in page
    asked = {"words": "set_knob rate*=0.5 group=a", "reason": "it diverges", "at_step": "20", "expires_in_s": "60"}
    confirmation = client.post(address(run), asked)
    assert not Command.objects.exists()
    text = confirmation.content.decode()
    assert "set_knob rate*=0.5 group=a" in text and "Change a value of the running training" in text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
    hidden.pop("csrfmiddlewaretoken")
    assert hidden["confirmed"] == "yes" and hidden["words"] == asked["words"]
    for _ in range(3):
        assert client.post(address(run), hidden, follow=True).redirect_chain[0][0] == f"{RUNS}{run.pk}/change/"
    row = Command.objects.get()
    assert (row.author, row.author_name, row.state) == (ada, "Ada Admin", CommandState.SENT)
    assert (row.arguments["factor"], row.arguments["group"], row.at_step) == (0.5, "a", 20)
    assert row.reason == "it diverges" and row.expires_at is not None and str(row.pk) == hidden["id"]


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"words": "dance"}, "words", "no such command"),
        ({"words": "set_knob rate"}, "words", "write name=value"),
        ({"words": ""}, "words", "required"),
        ({"words": "stop", "at_step": "0"}, "at_step", "greater than or equal to 1"),
        ({"words": "resume", "at_step": "5"}, "at_step", "takes effect immediately"),
        ({"words": "stop", "expires_in_s": "-1"}, "expires_in_s", "seconds above 0"),
    ],
)
def test_it_says_what_is_wrong_at_its_field(
    client: Client, run: Run, asked: dict[str, str], field: str, sentence: str
) -> None:
    answer = client.post(address(run), asked | {"confirmed": "yes"})
    assert answer.status_code == 200 and sentence in answer.context["form"].errors[field][0]
    assert not Command.objects.exists()


def test_it_says_that_a_command_was_refused(client: Client, run: Run) -> None:
    answer = client.post(address(run), {"words": "set_knob rate=7", "confirmed": "yes"}, follow=True)
    assert "The command was refused: rate takes a number from 0.000001 to 1, not 7." in answer.content.decode()


def test_only_staff_who_may_command_send(run: Run, project: Project) -> None:
    def status(user: User) -> int:
        client = Client()
        client.force_login(user)
        shown = client.get(f"{RUNS}{run.pk}/change/").content.decode()
        answer = client.post(address(run), {"words": "stop", "confirmed": "yes"})
        assert (address(run) in shown) == (answer.status_code == 302)
        return int(answer.status_code)

    staff = User.objects.create_user("olga", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_run"))
    assert status(staff) == 403
    member = Membership.objects.create(project=project, user=staff, role="viewer")
    assert status(staff) == 403 and not Command.objects.exists()
    member.role = "operator"
    member.save()
    assert status(staff) == 302 and Command.objects.get().author == staff
    anonymous = Client().get(address(run))
    assert anonymous.status_code == 302 and "login" in anonymous["Location"]
