"""The console of a run in the database stays within a bound: its first and last parts remain, in order."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import Sum
from django.db.models.functions import Length
from django.test import Client

from runs.api.history import console
from runs.models import Membership, Project, Run, StoredEvent
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
from runs.series import console_text as text_of_console
from runs.series.console_text import bound_console, console_text
from tests.support.stored_points import LOSS, read_points, store

LARGEST = 20_000


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Digits", slug="digits")
    for name in ("viewer", "stranger"):
        User.objects.create_user(name)
    Membership.objects.create(project=project, user=User.objects.get(username="viewer"), role="viewer")
    return Run.objects.create(project=project, name="first", attempt=1)


def print_lines(run: Run, first: int, count: int) -> None:
    for number in range(first, first + count):
        feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text=f"line {number:06d}")]))


def stored(run: Run) -> int:
    found = StoredEvent.objects.filter(run=run, kind="log").aggregate(n=Sum(Length("frame")))
    return int(found["n"])


def shown(run: Run) -> tuple[list[str], list[str], int]:
    """Return the lines before the omitted part, the lines after it, and its size in bytes."""
    entries = console(run, run.last_seq or 1 << 40, lines=100_000)
    (gap,) = [place for place, entry in enumerate(entries) if entry["source"] == "skipped"]
    lines = [entry["text"] for entry in entries]
    return lines[:gap], lines[gap + 1 :], entries[gap]["skipped"]


def numbered(first: int, count: int) -> list[str]:
    return [f"line {number:06d}" for number in range(first, first + count)]


def test_a_small_console_stays_whole(run: Run) -> None:
    print_lines(run, 0, 10)
    assert bound_console(run.pk, LARGEST) == 0
    assert "".join(console_text(run)) == "".join(f"{line}\n" for line in numbered(0, 10))


def test_the_middle_is_left_out_again_and_again_with_one_sentence(run: Run) -> None:
    for time in range(4):
        print_lines(run, time * 300, 300)
        assert bound_console(run.pk, LARGEST) > 0
        assert stored(run) <= LARGEST
        total = (time + 1) * 300
        before, behind, left_out = shown(run)
        assert before == numbered(0, len(before)) and behind == numbered(total - len(behind), len(behind))
        assert len(before) > 30 and len(behind) > 60
        assert left_out == (total - len(before) - len(behind)) * len("line 000000\n")


def test_who_is_killed_in_the_middle_leaves_it_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_of_console, "LEFT_OUT_AT_ONCE", 20)
    print_lines(run, 0, 400)
    real, calls = text_of_console._gap_of, []

    def killed(events: list[LogWritten]) -> LogWritten:
        calls.append(len(events))
        if len(calls) == 3:
            raise SystemExit
        return real(events)

    with monkeypatch.context() as patched:
        patched.setattr(text_of_console, "_gap_of", killed)
        with pytest.raises(SystemExit):
            bound_console(run.pk, LARGEST)
    for _ in range(2):
        before, behind, left_out = shown(run)
        assert before[0] == "line 000000" and behind[-1] == "line 000399"
        assert (len(before) + len(behind)) * 12 + left_out == 400 * 12
        bound_console(run.pk, LARGEST)
    assert stored(run) <= LARGEST


def test_what_steersman_said_and_every_point_stay(run: Run) -> None:
    print_lines(run, 0, 200)
    store(run, [1.0, 2.0])
    note = LogLine(text="1 record could not be stored", source="steersman", level="error")
    feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text="beside it"), note]))
    print_lines(run, 200, 200)
    bound_console(run.pk, LARGEST)
    text = "".join(console_text(run))
    assert "bytes of output were left out here]\n[steersman: error] 1 record could not be stored\n" in text
    assert "beside it" not in text
    assert read_points(run.pk, LOSS)[1].values.tolist() == [1.0, 2.0]
    run.refresh_from_db()
    behind = StoredEvent.objects.filter(run=run, seq__gt=run.replay_from).count()
    assert behind == run.last_seq - run.replay_from


def test_the_text_is_downloaded_by_members_alone(run: Run, client: Client) -> None:
    print_lines(run, 0, 3)
    address = f"/runs/{run.pk}/console.txt"
    assert client.get(address).status_code == 302
    client.force_login(User.objects.get(username="stranger"))
    assert client.get(address).status_code == 404
    client.force_login(User.objects.get(username="viewer"))
    answer = client.get(address)
    assert answer.content.decode() == "".join(f"{line}\n" for line in numbered(0, 3))
    assert answer["Content-Disposition"] == f'attachment; filename="run-{run.pk}-console.txt"'


def found_by(client: Client, run: Run, **query: str) -> dict[str, Any]:
    answer = client.get(f"/runs/{run.pk}/console/", query)
    assert answer.status_code == 200 and answer["Content-Type"] == "application/json"
    return dict(answer.json())


def test_lines_are_found_in_the_whole_output_without_their_colours(run: Run, client: Client) -> None:
    print_lines(run, 0, 400)
    told = [
        LogLine(text="Line of ours", source="steersman", level="error"),
        LogLine(text="\x1b[31mline\x1b[0m red\x07"),
    ]
    feed.append(run.pk, LogWritten(attempt=1, lines=told))
    client.force_login(User.objects.get(username="viewer"))
    found = found_by(client, run, q=" line 0000 ")
    assert (found["total"], found["lines"][0]["text"]) == (100, "line 000000")
    found = found_by(client, run, q="LINE")
    assert found["total"] == 402 and len(found["lines"]) == 200
    bound_console(run.pk, LARGEST)
    found = found_by(client, run, q="line")
    assert found["total"] == len(found["lines"]) < 200, "the middle is gone"
    assert [line["text"] for line in found["lines"][-3:]] == ["line 000399", "Line of ours", "line red"]
    for choice in ("problems", "errors", "steersman"):
        assert [line["text"] for line in found_by(client, run, q="line", lines=choice)["lines"]] == ["Line of ours"]
    assert found_by(client, run, q="[31m") == {"total": 0, "lines": []}


@pytest.mark.parametrize(
    ("query", "field"), [({}, "q"), ({"q": "  "}, "q"), ({"q": "x" * 201}, "q"), ({"q": "x", "lines": "all"}, "lines")]
)
def test_a_search_that_is_not_valid_is_refused_with_its_field(
    run: Run, client: Client, query: dict[str, str], field: str
) -> None:
    client.force_login(User.objects.get(username="viewer"))
    answer = client.get(f"/runs/{run.pk}/console/", query)
    assert answer.status_code == 422 and answer.json()["field"] == field
    assert answer.json()["error"].startswith(f"{field}: give")


def test_the_console_is_searched_by_members_alone(run: Run, client: Client) -> None:
    address = f"/runs/{run.pk}/console/?q=line"
    assert client.get(address).status_code == 302
    client.force_login(User.objects.get(username="stranger"))
    assert client.get(address).status_code == 404
