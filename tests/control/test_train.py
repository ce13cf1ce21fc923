"""`manage.py train --run-id N` from outside: exit codes, ends, signals, adoption, and the record."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.outage.taken_away import database_file_taken_away
from tests.support.locked_database import suspend_between_writes, write_locked
from tests.support.stack import ROOT, Stack, create_run, events, kill, rows, run_row, wait_for

SHORT = str(ROOT / "tests" / "trainings" / "short.py")
ENDLESS = ("1000000", "0.01")


# The snapshot of `hello` and the history, as a viewer's page receives them.
WHAT_PAGES_GET = """
import json
from runs.api.history import history
from runs.models import Run
from runs.live.snapshot import latest_values, run_snapshot
run = Run.objects.get(pk={run_id})
print(json.dumps([run_snapshot(run), {{"latest": latest_values(run)}}, history(run, "viewer"), history(run, "owner")]))
"""


def start_endless(stack: Stack, mode: str = "log") -> tuple[int, subprocess.Popen[bytes], int]:
    """Start a run that continues until it is stopped; return run, supervisor and worker pid once points are stored."""
    run_id = create_run(stack)
    supervisor = stack.train(run_id, "--quiet", "--", SHORT, *ENDLESS, mode)
    wait_for(lambda: run_row(stack, run_id)["step"] > 3, lambda: f"points of run {run_id}\n{stack.log()}")
    worker = stack.worker_pid(run_id)
    assert worker is not None
    return run_id, supervisor, worker


def attempt(stack: Stack, run_id: int) -> dict[str, object]:
    return rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number DESC", run_id)[0]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_it_records_a_script_from_start_to_end(offline_stack):
    run_id = create_run(offline_stack)
    result = offline_stack.manage("train", "--run-id", str(run_id), "--", SHORT, "50", check=False)
    assert result.returncode == 0, result.stderr
    assert "last step 50" in result.stdout and f"run {run_id} finished" in result.stdout

    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"], run["total_steps"], run["best_metric"]) == ("finished", 50, 50, 0.5)
    assert attempt(offline_stack, run_id)["exit_code"] == 0
    blocks = [block for event in events(offline_stack, run_id, "metrics") for block in event["blocks"]]
    assert [step for block in blocks for step in block["steps"]] == list(range(1, 51))
    assert all(value is None for block in blocks for value in block["values"]["nothing"])
    assert all(flag == "nan" for block in blocks for _, flag in block["nonfinite"]["nothing"])
    (epoch,) = rows(offline_stack, "SELECT * FROM runs_epochmetric WHERE run_id = ?", run_id)
    assert epoch["validation_loss"] is None and json.loads(epoch["nonfinite"]) == {"validation_loss": "inf"}
    assert json.loads(epoch["extra"]) == {"perplexity": 2.5}
    numbers = [event["seq"] for event in events(offline_stack, run_id)]
    assert numbers == list(range(1, run["last_seq"] + 1))


@pytest.mark.parametrize(
    ("mode", "code", "state", "recorded"),
    [
        ("fail", 1, "failed", "RuntimeError: the data are gone"),
        ("exit3", 1, "failed", "exit code 3. Its last line was: giving up"),
        ("silent", 0, "finished", ""),
    ],
)
def test_it_tells_how_an_attempt_ended(offline_stack, mode, code, state, recorded):
    run_id = create_run(offline_stack)
    quiet = () if mode == "exit3" else ("--quiet",)
    arguments = ("train", "--run-id", str(run_id), *quiet, "--", SHORT, "3", "0", mode)
    result = offline_stack.manage(*arguments, check=False)
    assert result.returncode == code
    assert recorded in run_row(offline_stack, run_id)["reason"] and recorded in result.stdout + result.stderr
    again = f"Go on with: python manage.py train --run-id {run_id} -- {SHORT} 3 0 {mode}\n"
    assert result.stdout.endswith(again) == (not quiet)
    assert "Traceback" not in result.stderr
    ended = attempt(offline_stack, run_id)
    assert ended["outcome"] == run_row(offline_stack, run_id)["state"] == state
    assert ("Traceback" in str(ended["traceback"])) is (mode == "fail")
    known = {"kind": "exit_code", "rank": None, "code": 3, "last_line": "giving up"} if mode == "exit3" else {}
    cause = run_row(offline_stack, run_id)["cause"]
    assert (json.loads(cause) if isinstance(cause, str) else cause) == known


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--run-id", "99999"), "there is no run 99999"),
        (("--run-id", "RUN"), "has no recipe: name your script"),
        (("--run-id", "RUN", "--", "/no/such/script.py"), "there is no file /no/such/script.py"),
    ],
)
def test_it_answers_bad_input_with_a_sentence_and_exit_code_2(offline_stack, arguments, sentence):
    run_id = create_run(offline_stack)
    arguments = [argument.replace("RUN", str(run_id)) for argument in arguments]
    result = offline_stack.manage("train", *arguments, check=False)
    assert result.returncode == 2
    assert sentence in result.stderr and "Traceback" not in result.stderr


def test_it_names_a_signal_that_ended_the_worker(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    kill(worker)
    assert supervisor.wait(60) == 1
    run = run_row(offline_stack, run_id)
    assert run["state"] == "failed" and "SIGKILL" in run["reason"]
    assert attempt(offline_stack, run_id)["signal"] == "SIGKILL"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_order_on_a_signal(offline_stack, number):
    run_id, supervisor, worker = start_endless(offline_stack)
    supervisor.send_signal(number)
    assert supervisor.wait(60) == 0
    assert run_row(offline_stack, run_id)["state"] == "stopped"
    (command,) = rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ?", run_id)
    assert (command["kind"], command["state"], command["author_name"]) == ("stop", "applied", number.name)
    assert command["step"] > 0
    states = [event["state"] for event in events(offline_stack, run_id, "command")]
    assert states == ["sent", "delivered", "applied"]
    assert is_gone(worker)


def test_it_ends_at_once_on_a_second_interrupt(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack, "deaf")
    supervisor.send_signal(signal.SIGINT)
    wait_for(lambda: rows(offline_stack, "SELECT 1 FROM runs_command WHERE run_id = ?", run_id), "the stop")
    assert supervisor.poll() is None
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 130
    assert run_row(offline_stack, run_id)["state"] == "stopped"
    assert is_gone(worker)
    (command,) = rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ?", run_id)
    assert command["state"] == "expired"


def test_it_leaves_a_held_run_alone_and_names_the_holder(offline_stack):
    run_id, supervisor, _ = start_endless(offline_stack)
    result = offline_stack.manage("train", "--run-id", str(run_id), "--", SHORT, "1", check=False)
    assert result.returncode == 3
    assert f"process {supervisor.pid}" in result.stderr
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    assert attempt(offline_stack, run_id)["number"] == 1


def test_a_command_whose_supervisor_died_before_announcing_it_is_applied_by_the_next(offline_stack):
    """The supervisor is killed between the line in the mailbox and its counter; the next one settles the command."""
    run_id, supervisor, worker = start_endless(offline_stack)
    supervisor.kill()
    supervisor.wait()
    folder = offline_stack.data / "runs" / str(run_id) / "attempts" / "1"
    line = {"id": "0c9e5b0e-6b5c-4b5e-9d0c-1f2e3d4c5b6a", "command": "stop", "arguments": {}}
    with (folder / "commands.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    adopter = offline_stack.train(run_id, "--quiet", "--", SHORT, *ENDLESS)
    assert adopter.wait(60) == 0
    assert is_gone(worker) and run_row(offline_stack, run_id)["state"] == "stopped"


def test_it_adopts_a_living_worker(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    supervisor.kill()
    supervisor.wait()
    before = run_row(offline_stack, run_id)["step"]
    adopter = offline_stack.train(run_id, "--quiet", "--", SHORT, *ENDLESS)
    wait_for(lambda: run_row(offline_stack, run_id)["step"] > before, "the adopted worker's points")
    assert offline_stack.worker_pid(run_id) == worker
    adopter.send_signal(signal.SIGTERM)
    assert adopter.wait(60) == 0
    ended = attempt(offline_stack, run_id)
    assert (ended["number"], ended["adoptions"], ended["outcome"]) == (1, 1, "stopped")
    blocks = [block for event in events(offline_stack, run_id, "metrics") for block in event["blocks"]]
    steps = [step for block in blocks for step in block["steps"]]
    assert steps == list(range(1, len(steps) + 1))


def test_it_takes_over_at_once_from_a_dead_holder_and_keeps_what_it_left(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    os.kill(supervisor.pid, signal.SIGSTOP)
    seen = run_row(offline_stack, run_id)["step"]
    journal = offline_stack.data / "runs" / str(run_id) / "attempts" / "1" / "journal-0000-000000.bin"
    size = journal.stat().st_size
    wait_for(lambda: journal.stat().st_size > size + 1000, "points that the supervisor has not read")
    kill(worker)
    supervisor.kill()
    supervisor.wait()
    result = offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", SHORT, "2", check=False)
    assert result.returncode == 0, result.stderr
    first, second = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number", run_id)
    assert (first["outcome"], second["outcome"]) == ("failed", "finished")
    steps = [
        step
        for event in events(offline_stack, run_id, "metrics")
        if event["attempt"] == 1
        for block in event["blocks"]
        for step in block["steps"]
    ]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > seen + 10


def test_how_a_training_ended_is_known_although_its_supervisor_was_killed_before_it_could_store_that(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    folder = offline_stack.data / "runs" / str(run_id) / "attempts" / "1"
    with write_locked(offline_stack, run_id):
        os.kill(worker, signal.SIGSEGV)
        wait_for((folder / "ended.json").exists, "the end to be written down while the database is away")
        supervisor.kill()
        supervisor.wait()
    assert run_row(offline_stack, run_id)["state"] == "running"
    result = offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", SHORT, "2", check=False)
    assert result.returncode == 0, result.stderr
    first, _ = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number", run_id)
    assert (first["outcome"], first["signal"]) == ("failed", "SIGSEGV")


def test_an_owner_that_was_fenced_out_changes_nothing_of_the_run_and_exits_4(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    suspend_between_writes(offline_stack, run_id, supervisor.pid)
    stolen = "UPDATE runs_run SET attempt = attempt + 1 WHERE id = ? RETURNING *"
    (before,) = rows(offline_stack, stolen, run_id)
    os.kill(supervisor.pid, signal.SIGCONT)
    assert supervisor.wait(60) == 4
    after = rows(offline_stack, "SELECT * FROM runs_run WHERE id = ?", run_id)
    assert after == [{**before, "last_seq": after[0]["last_seq"]}]
    told = [event for event in events(offline_stack, run_id) if event["seq"] > before["last_seq"]]
    assert {event["kind"] for event in told} <= {"metrics", "log", "unfinished"}
    assert {event["attempt"] for event in told} == {1}
    wait_for(lambda: is_gone(worker), "the fenced worker to end")


def test_a_database_that_is_away_costs_no_point(offline_stack):
    """The database is locked for a while, then missing: the loop continues, and everything is stored afterwards."""
    run_id, supervisor, _ = start_endless(offline_stack)
    journal = offline_stack.data / "runs" / str(run_id) / "attempts" / "1" / "journal-0000-000000.bin"
    for away in (write_locked(offline_stack, run_id), database_file_taken_away(offline_stack)):
        seen = run_row(offline_stack, run_id)["step"]
        with away:
            size = journal.stat().st_size
            wait_for(lambda size=size: journal.stat().st_size > size + 5000, "the loop to go on")
        wait_for(lambda seen=seen: run_row(offline_stack, run_id)["step"] > seen + 50, "the points logged meanwhile")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    blocks = [block for event in events(offline_stack, run_id, "metrics") for block in event["blocks"]]
    steps = [step for block in blocks for step in block["steps"]]
    assert steps == list(range(1, steps[-1] + 1))
    told = (offline_stack.folder / "train.log").read_text()
    # The thread of the alerts logs its own line when it can read again.
    assert told.count("nothing can be stored now") == told.count("the database is back: nothing could be stored")
    # PostgreSQL lets a statement wait for a lock for 5 s, which is longer than the test holds this one.
    assert "nothing can be stored now" in told or "STEERSMAN_DATABASE_URL" in offline_stack.environment


def test_it_stops_on_a_signal_while_the_database_is_away_and_records_it_afterwards(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    with write_locked(offline_stack, run_id):
        supervisor.send_signal(signal.SIGTERM)
        wait_for(lambda: is_gone(worker), "the worker to end without the database", timeout_s=60)
    assert supervisor.wait(60) == 0
    assert run_row(offline_stack, run_id)["state"] == "stopped"
    (command,) = rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ?", run_id)
    assert (command["state"], command["author_name"]) == ("applied", "SIGTERM")


def test_nothing_pushed_carries_a_path_a_host_or_a_secret(offline_stack):
    run_id = create_run(offline_stack)
    token = "canary-4f9d2c71"
    offline_stack.environment["MY_API_TOKEN"] = token
    try:
        arguments = ("train", "--run-id", str(run_id), "--quiet", "--", SHORT, "3", "0", "leak")
        result = offline_stack.manage(*arguments, check=False)
    finally:
        del offline_stack.environment["MY_API_TOKEN"]
    assert result.returncode == 1
    frames = json.dumps(events(offline_stack, run_id), ensure_ascii=False)
    assert "leaking" in frames and "<secret>" in frames
    pages = offline_stack.manage("shell", "-v", "0", "-c", WHAT_PAGES_GET.format(run_id=run_id)).stdout
    assert '"python"' in pages and '"latest"' in pages
    # Members see on which host a checkpoint is.
    pages = re.sub(r'"host": ?"[^"]*"', "", pages)
    shown = frames + pages + str(run_row(offline_stack, run_id))
    for table in ("series", "epochmetric", "checkpoint"):
        shown += str(rows(offline_stack, f"SELECT * FROM runs_{table} WHERE run_id = ?", run_id))
    for name in ("norm <secret>", "<secret>/loss", "metric <secret>", "bad <secret>", "sample <secret>", "best <host>"):
        assert name in shown
    (attempt,) = rows(offline_stack, "SELECT traceback FROM runs_attempt WHERE run_id = ?", run_id)
    assert "RuntimeError: cannot log in with <secret>" in attempt["traceback"]
    for canary in (token, str(offline_stack.data), os.path.expanduser("~") + "/", f'"{os.uname().nodename}"'):
        assert canary not in shown
    assert f" {os.uname().nodename}" not in shown


def test_it_trains_inline_on_the_terminal_where_it_was_started(offline_stack):
    """`breakpoint()` needs the worker on the terminal; the test uses a pseudo-terminal."""
    script = offline_stack.folder / "inline.py"
    script.write_text(
        "import steersman\nrun = steersman.attach()\nrun.log(1, loss=0.5)\nbreakpoint()\nrun.log(2, loss=0.25)\n"
    )
    run_id = create_run(offline_stack)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        offline_stack.command("train", "--run-id", str(run_id), "--inline", "--", str(script)),
        env=offline_stack.environment, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    try:
        output = b""
        while b"(Pdb)" not in output:
            output += os.read(leader, 4096)
        os.write(leader, b"continue\n")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    wait_for(lambda: run_row(offline_stack, run_id)["state"] == "finished", "the supervisor to record the end")
    assert run_row(offline_stack, run_id)["step"] == 2


def test_it_shows_a_progress_bar_on_a_terminal_that_knows_no_letters_but_ascii(offline_stack):
    run_id = create_run(offline_stack, name="✓ run")
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 120))
    process = subprocess.Popen(
        offline_stack.command("train", "--run-id", str(run_id), "--", SHORT, "1000000", "0.02", "bar"),
        env=offline_stack.environment | ascii_only, stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)

    def bars() -> list[list[str]]:
        """Return the progress bar that the script printed, as the page shows it."""
        told = [event["lines"] for event in events(offline_stack, run_id, "unfinished")]
        # Where the script had printed before the first read of its console, no line is known to be unfinished.
        return told[1:] if told[:1] == [[]] else told

    output, is_asked = b"", False
    try:
        while select.select([leader], [], [], 60)[0] and (chunk := os.read(leader, 65536)):
            output += chunk
            if not is_asked and len(bars()) > 2 and b"step/s" in output:
                process.send_signal(signal.SIGTERM)
                is_asked = True
    except OSError:  # on Linux, this is the end of a pseudo-terminal
        pass
    assert process.wait(60) == 0
    os.close(leader)
    text, step = output.decode(), run_row(offline_stack, run_id)["step"]
    assert "/1000000 [" in text and "step/s" in text and "loss" in text and "epoch 1/1" in text
    assert f"? last step {step}" in text
    printed = [line["text"] for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert printed[-2:] == [f"{step} of 1000000", f"✓ last step {step}"]
    # The script's progress bar moved meanwhile, here and on the page.
    assert len(bars()) > 2 and bars()[0][0].endswith(" of 1000000") and bars()[-1] == []
    assert bars()[0][0] in text.partition("? last step")[0]


def test_the_supervisor_never_loads_torch(offline_stack):
    code = "import trainer.control.train_command, sys; sys.exit('torch' in sys.modules)"
    script = f"import os, django; django.setup(); {code}"
    environment = offline_stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT)
    assert result.returncode == 0
