"""Several ranks: every command takes effect at the same step boundary on all of them, or on none.

The ranks here are threads or processes that wait at random instead of training, because the tests check only the
meeting.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.ranked_run import RankedRun
from steersman.ranks.barrier import BARRIER, OutOfStep, PeerLost, RankBarrier
from steersman.records.kinds import NoteRecord, OutcomeRecord, StateRecord
from steersman.records.posted import PostedCommand
from steersman.run import worker_lock_path
from tests.steersman.rank_threads import Ranks, records, uneven
from tests.support.stack import ROOT, wait_for


@pytest.mark.parametrize("seed", range(3))
def test_every_command_takes_effect_at_the_same_step_on_all_ranks(tmp_path, seed):
    rng = random.Random(seed)
    with Ranks(tmp_path, 3, 100_000, uneven(seed)) as ranks:
        for number in range(30):
            time.sleep(rng.choice((0.0, 0.0, 0.004)))
            ranks.set_rate(f"c{number}", round(rng.random(), 6))
        ranks.outcome("c29")
        ranks.post("stop", "last")
    assert not ranks.errors
    assert ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    outcomes = ranks.outcomes()
    assert len(outcomes) == 31 and {each["state"] for each in outcomes.values()} == {"applied"}
    assert {each["ranks"] for each in outcomes.values()} == {3}
    # The reported step of each change is the step at which it took effect.
    changes = {step: value for step, value, _ in ranks.seen[0]}
    last_at = {each["step"]: each["new"] for each in outcomes.values() if each["command"] == "set_knob"}
    assert all(changes[step] == value for step, value in last_at.items())


def test_ranks_without_any_pause_are_held_too(tmp_path):
    """Steps are far shorter than the wait after the barrier is set, which moves up until no rank can have passed it."""
    with Ranks(tmp_path, 2, 10_000_000, lambda rank: 0.0) as ranks:
        for number in range(10):
            ranks.set_rate(f"c{number}", (number + 1) / 16)
            ranks.outcome(f"c{number}")
        ranks.post("stop", "last")
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1]


def test_the_barrier_is_raised_beyond_a_rank_that_may_have_passed_it_unaware(tmp_path, monkeypatch):
    runs = Ranks(tmp_path, 2, 0, lambda rank: 0.0).runs
    words, row = runs[0]._words, runs[1]._row
    barriers: list[int] = []

    def run_ahead(seconds: float) -> None:
        """While the leader waits until its barrier is visible, let the other rank reach it, three times."""
        barriers.append(words[BARRIER])
        if len(barriers) <= 3:
            words[row] = words[BARRIER]

    monkeypatch.setattr("steersman.ranked_run.time.sleep", run_ahead)
    Mailbox(tmp_path).post(PostedCommand(id="c", command="note", arguments={}))
    assert not runs[0].stopping
    assert len(barriers) == 4 and words[BARRIER] == barriers[3] > words[row] == barriers[2] > barriers[1] > barriers[0]


def test_paused_ranks_take_commands_and_go_on_together(tmp_path):
    with Ranks(tmp_path, 3, 100_000, uneven(5)) as ranks:
        ranks.post("pause", "pause")
        at = ranks.outcome("pause")["step"]
        ranks.set_rate("while", 0.25)
        assert ranks.outcome("while")["step"] == at
        ranks.post("resume", "resume")
        assert ranks.outcome("resume")["step"] == at
        ranks.post("stop", "stop")
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    assert {step: value for step, value, _ in ranks.seen[1]}[at] == 0.25
    states = [record.state for record in records(tmp_path) if isinstance(record, StateRecord)]
    assert states == ["paused", "running"]
    assert not [record for record in records(tmp_path, 1) if isinstance(record, (StateRecord, OutcomeRecord))]


def test_a_command_for_a_later_step_takes_effect_there_on_all_ranks(tmp_path):
    with Ranks(tmp_path, 3, 2_000, uneven(6)) as ranks:
        ranks.set_rate("later", 0.25, at_step=400)
        ranks.set_rate("cancelled", 0.75, at_step=300)
        ranks.post("cancel", "cancel", {"command": "cancelled"})
        assert ranks.outcome("later")["step"] == 400
        ranks.post("stop", "stop")
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    values = {step: value for step, value, _ in ranks.seen[2]}
    assert values[399] == 0.5 and values[400] == 0.25
    assert ranks.outcomes()["cancelled"]["state"] == "expired"


def test_a_command_that_waits_expires_by_the_clock_of_the_leader(tmp_path):
    with Ranks(tmp_path, 2, 1_000_000, uneven(7)) as ranks:
        ranks.set_rate("late", 0.25, at_step=999_999, expires_monotonic_s=time.monotonic() + 0.3)
        ranks.set_rate("past", 0.25, expires_monotonic_s=time.monotonic() - 1)
        assert ranks.outcome("past")["state"] == "expired"
        assert ranks.outcome("late")["state"] == "expired", ranks.outcome("late")
        ranks.post("stop", "stop")
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1]
    assert {value for _, value, _ in ranks.seen[0]} == {0.5}


def test_what_one_rank_cannot_do_is_undone_on_all(tmp_path):
    with Ranks(tmp_path, 3, 1_000_000, uneven(8)) as ranks:
        ranks.fails_on = 2
        ranks.set_rate("bad", 0.125)
        outcome = ranks.outcome("bad")
        ranks.set_rate("good", 0.25)
        ranks.outcome("good")
        ranks.post("stop", "stop")
    assert outcome["state"] == "refused" and outcome["ranks"] is None
    assert outcome["reason"].startswith("Rank 2: ") and "no such rate" in outcome["reason"]
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    assert {value for _, value, _ in ranks.seen[0]} == {0.5, 0.25}


def test_what_all_ranks_refuse_is_refused_in_plain_words(tmp_path):
    with Ranks(tmp_path, 2, 1_000_000, uneven(9)) as ranks:
        ranks.set_rate("bad", 2.0)
        outcome = ranks.outcome("bad")
        ranks.post("stop", "stop")
    assert outcome["state"] == "refused" and outcome["reason"] == "lr takes a number from 0 to 1, not 2."


def test_only_the_leader_need_know_how_to_evaluate(tmp_path):
    with Ranks(tmp_path, 2, 1_000_000, uneven(10)) as ranks:
        ranks.runs[0].on("evaluate", lambda arguments: ranks.saved.append(0))
        ranks.post("evaluate", "here")
        assert ranks.outcome("here")["state"] == "applied"
        ranks.post("save_checkpoint", "nowhere")
        assert "on command" in ranks.outcome("nowhere")["reason"]
        ranks.post("stop", "stop")
    assert not ranks.errors and ranks.saved == [0]


def test_a_signal_to_any_rank_stops_all_at_the_same_step(tmp_path):
    with Ranks(tmp_path, 3, 1_000_000, uneven(11)) as ranks:
        wait_for(lambda: len(ranks.seen[2]) > 20, "steps")
        ranks.runs[2].request_stop()
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    assert ranks.seen[0][-1][2] and ranks.outcomes() == {}


def test_a_rank_that_does_not_come_makes_the_command_refused_and_everybody_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERSMAN_HOLD_TIMEOUT_S", "0.3")
    stuck, free = threading.Event(), threading.Event()

    def pause(rank: int) -> float:
        if rank == 1 and stuck.is_set():
            free.wait(60)
        return 0.001

    with Ranks(tmp_path, 2, 1_000_000, pause) as ranks:
        wait_for(lambda: len(ranks.seen[1]) > 5, "steps")
        stuck.set()
        ranks.set_rate("c", 0.25)
        outcome = ranks.outcome("c")
        assert outcome["state"] == "refused" and "rank 1 had not reached" in outcome["reason"]
        stuck.clear()
        free.set()
        monkeypatch.undo()
        ranks.runs[0]._barrier_timeout_s = 60
        ranks.set_rate("d", 0.75)
        assert ranks.outcome("d")["state"] == "applied"
        ranks.post("stop", "stop")
    assert not ranks.errors
    assert {step: value for step, value, _ in ranks.seen[0]}[ranks.outcomes()["d"]["step"]] == 0.75
    assert len(ranks.seen[0]) == len(ranks.seen[1])


def test_a_full_disk_refuses_a_command_and_a_stop_waits_for_room(tmp_path):
    decisions = tmp_path / "decisions.jsonl"
    decisions.symlink_to("/dev/full")
    with Ranks(tmp_path, 2, 1_000_000, uneven(13)) as ranks:
        ranks.set_rate("c", 0.25)
        outcome = ranks.outcome("c")
        assert outcome["state"] == "refused"
        assert outcome["reason"] == "The decision could not be written (No space left on device): nothing was changed."
        ranks.post("stop", "stop")
        ranks.set_rate("d", 0.75)
        assert ranks.outcome("d")["state"] == "refused"
        assert "stop" not in ranks.outcomes()
        decisions.unlink()
    assert not ranks.errors and ranks.seen[0] == ranks.seen[1]
    assert ranks.outcomes()["stop"]["state"] == "applied" and ranks.seen[0][-1][1:] == (0.5, True)


def test_ranks_that_log_other_steps_cannot_wait_for_one(tmp_path):
    with Ranks(tmp_path, 2, 1_000_000, uneven(12)) as ranks:
        ranks.runs[1].log = lambda *given, **values: None  # type: ignore[method-assign]
        ranks.set_rate("later", 0.25, at_step=999_999)
        assert "only if all ranks log the same steps" in ranks.outcome("later")["reason"]
        ranks.set_rate("now", 0.25)
        assert ranks.outcome("now")["state"] == "applied"
        ranks.post("stop", "stop")
    assert not ranks.errors and [value for _, value, _ in ranks.seen[0]] == [value for _, value, _ in ranks.seen[1]]


def test_commands_wait_for_ranks_that_are_still_starting_and_then_do_without_them(tmp_path, monkeypatch):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run = RankedRun(tmp_path, 0, lock, 3)
    rate = run.knob("lr", 0.5, minimum=0.0, maximum=1.0)
    Mailbox(tmp_path).post(PostedCommand(id="c", command="set_knob", arguments={"knob": "lr", "value": 0.25}))
    assert not any(run.stopping for _ in range(5)) and rate.value == 0.5
    monkeypatch.setattr("steersman.ranked_run.ATTACH_TIMEOUT_S", 0.0)
    assert not any(run.stopping for _ in range(5)) and rate.value == 0.25
    notes = [record.text for record in records(tmp_path) if isinstance(record, NoteRecord)]
    assert notes == ["Rank 1, 2 has not called steersman.attach(): commands take effect on the other ranks only."]
    # A rank that starts all the same has nothing to catch up with.
    lock = try_lock(worker_lock_path(tmp_path, 1))
    assert lock is not None
    assert not RankedRun(tmp_path, 1, lock, 3).stopping


def test_a_rank_that_looks_more_often_is_told_so(tmp_path):
    runs = Ranks(tmp_path, 2, 0, lambda rank: 0.0).runs
    assert not runs[0].stopping and not runs[1].stopping
    runs[1]._decision_count = -1
    (tmp_path / "decisions.jsonl").write_text('{"at": 1, "step": 0, "epoch": 0, "commands": []}\n')
    with pytest.raises(OutOfStep, match="equally often on every rank"):
        runs[1]._boundary = 5
        runs[1]._words[0] = 6
        assert runs[1].stopping


def test_a_vote_waits_for_all_and_names_who_failed(tmp_path):
    barriers = [RankBarrier(tmp_path, rank, 3) for rank in range(3)]
    found: list[list[dict[int, str]]] = [[], [], []]

    def vote(rank: int) -> None:
        rng = random.Random(rank)
        for number in range(50):
            time.sleep(rng.random() * 0.002)
            found[rank].append(barriers[rank].vote(f"no {number}" if number % 3 == rank else ""))

    threads = [threading.Thread(target=vote, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1] == found[2] == [{number % 3: f"no {number}"} for number in range(50)]


def test_who_waits_for_a_dead_rank_is_told(tmp_path):
    code = "from pathlib import Path; from steersman.ranks.barrier import RankBarrier; "
    code += f"RankBarrier(Path({str(tmp_path)!r}), 1, 2)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    with pytest.raises(PeerLost, match="rank 1 has died"):
        RankBarrier(tmp_path, 0, 2).vote("")


def test_processes_take_commands_together_and_end_by_a_signal_to_one(tmp_path):
    """The same across processes: each writes what it saw to a separate file."""
    code = """
    import json, random, signal, time, steersman
    run = steersman.attach()
    assert run.ranks == 3
    signal.signal(signal.SIGTERM, lambda *_: run.request_stop())
    rate = run.knob("lr", 0.5, minimum=0.0, maximum=1.0)
    rng, seen, step = random.Random(run.rank), [], 0
    while not run.stopping:
        step += 1
        # Mostly at full speed, so that the leader is often overtaken while it looks.
        if rng.random() < 0.01:
            time.sleep(0.001)
        if step % 500 == 0:
            run.log(step, loss=1.0)
        if not seen or seen[-1][1] != rate.value:
            seen.append((step, rate.value))
    (run.folder / f"seen-{run.rank}.json").write_text(json.dumps(seen))
    """
    mailbox = Mailbox(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "STEERSMAN_ATTEMPT_FOLDER": str(tmp_path),
                "STEERSMAN_RANK": str(rank), "STEERSMAN_RANKS": "3",
            },
        )
        for rank in range(3)
    ]  # fmt: skip

    def died() -> bool:
        return any(process.poll() is not None for process in processes)

    try:
        for number in range(20):
            arguments = {"knob": "lr", "value": number / 32}
            mailbox.post(PostedCommand(id=f"c{number}", command="set_knob", arguments=arguments))
            wait_for(lambda: outcome_ids(tmp_path) >= {f"c{number}"} or died(), "an outcome")  # noqa: B023
            assert not died()
        processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    seen = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(3)]
    assert seen[0] == seen[1] == seen[2] and {value for _, value in seen[0]} >= {number / 32 for number in range(20)}


def outcome_ids(folder: Path) -> set[str]:
    return {record.id for record in records(folder) if isinstance(record, OutcomeRecord)}
