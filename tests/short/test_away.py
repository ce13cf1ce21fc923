"""A viewer that was away for a long time is up to date after one history and one socket."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.seams import Page
from tests.live.test_page_state import differences
from tests.support.stack import Stack, run_row, wait_for

SERIES, STEPS, STEPS_AN_EVENT = 20, 5_000, 50
# The viewer has seen these before it leaves.
SEEN_STEPS = 1_000
IMPORTS = f"""
import json
from django.contrib.auth.models import User
from django.db import transaction
from runs.models import Project, Run, RunState
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, open_attempt
from runs.series import storage
from tests.chaos.seams import keys_of
from tests.support.stored_points import metrics
from trainer.control.restart import conclude

def log(run_id, begin, end):
    for first in range(begin, end, {STEPS_AN_EVENT}):
        steps = range(first, first + {STEPS_AN_EVENT})
        columns = {{f"layer {{n}}/loss": [1 / (step + n + 1) for step in steps] for n in range({SERIES})}}
        event = metrics(columns, steps)
        with transaction.atomic():
            feed.append(run_id, event, LogWritten(attempt=1, lines=[LogLine(text=f"step {{first}}")]))
            storage.update_latest(run_id, [event])
"""


def in_stack(stack: Stack, program: str) -> Any:
    """Run Python on the stack's database; return the JSON that it printed last."""
    done = stack.manage("shell", "-v", "0", "-c", IMPORTS + program)
    return json.loads(done.stdout.strip().splitlines()[-1])


def requests(page: Page) -> tuple[int, int]:
    return page.histories, page.connections


@pytest.mark.parametrize("key", ["operator", "share"])
def test_a_viewer_who_was_away_for_a_day_catches_up_with_two_requests(stack: Stack, tmp_path: Path, key: str) -> None:
    begun = in_stack(stack, f"""
run = Run.objects.create(project=Project.objects.get(slug="lab"), name="away")
lease = open_attempt(run.pk, Holder("gpu-host", "boot", 1), 0, command_line=[])
log(run.pk, 0, {SEEN_STEPS})
print(json.dumps({{"run": run.pk, "attempt": lease.attempt_id, "keys": keys_of(run.pk)}}))
""")  # fmt: skip
    run, secret = begun["run"], begun["keys"][key]
    page = Page(stack, run, secret, "away", "deflate")
    wait_for(lambda: page.connections and page.seq == run_row(stack, run)["last_seq"], "the page to follow")
    page.close()
    left, known = page.seq, len(page.told)

    newest = in_stack(stack, f"""
log({run}, {SEEN_STEPS}, {STEPS})
storage.fold({run})
conclude(Lease({run}, {begun["attempt"]}, 1), AttemptEnd("finished", 0, "", "", ""))
run = Run.objects.get(pk={run})
print(json.dumps([run.last_seq, run.replay_from, run.state]))
""")  # fmt: skip
    assert newest[1] > left and newest[2] == "finished", newest
    histories, connections = requests(page)
    page.come()
    wait_for(lambda: page.histories > histories and page.connections > connections + 1, "the page to come back")
    wait_for(lambda: page.told[-1]["kind"] == "hello" and page.seq == newest[0], "the page to be up to date")
    page.close()
    # The first socket reported that events cannot close the gap; then a history and a second socket did.
    assert requests(page) == (histories + 1, connections + 2)
    kinds = [message["kind"] for message in page.told[known:]]
    assert kinds[0] == "hello" and not page.told[known]["replay"]
    assert kinds[-2:] == ["history", "hello"] and page.told[-1]["seq"] == newest[0]
    assert "metrics" not in kinds

    fresh = Page(stack, run, secret, "fresh", None)
    wait_for(lambda: fresh.told and fresh.told[-1]["kind"] == "hello", "a fresh page")
    fresh.close()
    history, hello = fresh.told
    assert sum(chart["attempts"]["1"]["count"] for chart in history["series"].values()) == SERIES * STEPS
    end = {"seq": history["seq"], "hello": hello, "history": history}
    story = {"name": "away", "cuts": [end], "frames": [], "pages": [{"name": "away", "told": page.told}]}
    assert differences([story], tmp_path) == []


def test_coming_back_to_a_run_that_has_ended_brings_no_history_again(stack: Stack) -> None:
    run, keys = in_stack(stack, """
run = Run.objects.create(project=Project.objects.get(slug="lab"), name="ended", state=RunState.FINISHED)
log(run.pk, 0, 100)
print(json.dumps([run.pk, keys_of(run.pk)]))
""")  # fmt: skip

    def ask(key: str, tag: str = "") -> Any:
        headers = {"Authorization": f"Bearer {keys[key]}", "If-None-Match": tag}
        return urllib.request.urlopen(
            urllib.request.Request(f"{stack.address}/api/runs/{run}/history/", headers=headers), timeout=60
        )

    for key in ("operator", "share"):
        with ask(key) as answer:
            tag = answer.headers["ETag"]
        with pytest.raises(urllib.error.HTTPError) as unchanged:
            ask(key, tag)
        assert unchanged.value.code == 304 and unchanged.value.read() == b""
    in_stack(stack, f"log({run}, 100, 150)\nprint(0)")
    with ask("share", tag) as answer:
        assert answer.status == 200 and answer.headers["ETag"] != tag
