"""`steersman run` on a host without Django: nothing is lost or doubled, and the terminal is that of the training."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows, run_row, seed_stack, wait_for

PATIENCE_S = 60.0
TRAINING = """
import os, sys, time
import steersman

assert "STEERSMAN_TOKEN" not in os.environ
assert "django" not in sys.modules
run = steersman.attach(rate=0.1)
rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
print("begins", flush=True)
step = 0
while not run.stopping:
    step += 1
    run.step = step
    run.log(step, {"train/loss": 1.0 / step, "rate": rate.value})
    time.sleep(0.002)
sys.stdout.write("\\rhalf a line")
sys.stdout.flush()
print("\\rstopped at", step, "with", rate.value)
"""


@contextmanager
def installation(folder: Path, **variables: str) -> Iterator[tuple[Stack, Portal, TrainingHost]]:
    with Stack(**variables) as stack:
        seed_stack(stack)
        stack.start_redis()
        host = TrainingHost(stack, folder / "host")
        try:
            yield stack, Portal(stack), host
        finally:
            host.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Portal, TrainingHost]]:
    with installation(tmp_path_factory.mktemp("remote")) as found:
        found[1].start()
        yield found


def ended(process: subprocess.Popen[bytes], host: TrainingHost) -> int:
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"steersman run did not end:\n{host.printed()}") from None


def test_nothing_is_lost_whatever_is_killed(places: tuple[Stack, Portal, TrainingHost]):
    stack, portal, host = places
    host.script(TRAINING)
    command = host.start("run", "--name", "far", "--", "python", "train.py")
    run_id = wait_for(lambda: opened_run(stack, "far"), lambda: f"the run\n{host.printed()}", PATIENCE_S)

    def reaches(step: int) -> bool:
        assert command.poll() is None, host.printed()
        return run_row(stack, run_id)["step"] >= step

    def goes_on(by: int = 50) -> None:
        wanted = run_row(stack, run_id)["step"] + by
        wait_for(lambda: reaches(wanted), lambda: f"step {wanted}\n{host.printed()}\n{stack.log()}", PATIENCE_S)

    goes_on()
    send(stack, run_id, "set_knob", knob="rate", value=0.5)
    wait_for(lambda: states(stack, run_id) == {"set_knob": "applied"}, "the knob", PATIENCE_S)
    worker, killed = host.worker(), host.kill_host_process()
    wait_for(lambda: host.host_process not in (None, killed), "another host process", PATIENCE_S)
    goes_on()
    portal.kill()
    # The training is not held up: its journal grows while there is no portal.
    size = journal_bytes(host)
    wait_for(lambda: journal_bytes(host) > size + 20_000, "the journal to grow", PATIENCE_S)
    host.kill_host_process()
    portal.start()
    goes_on()
    assert host.worker() == worker
    send(stack, run_id, "stop")
    assert ended(command, host) == 0, host.printed()

    assert states(stack, run_id) == {"set_knob": "applied", "stop": "applied"}
    row = run_row(stack, run_id)
    found = Counter(points(stack, run_id))
    assert row["state"] == "stopped" and row["step"] > 150
    assert found == Counter(range(1, row["step"] + 1)), "points were lost or doubled"
    assert host.output("out.log") == f"begins\n\rhalf a line\rstopped at {row['step']} with 0.5\n"
    told = host.output("err.log")
    assert f"run {run_id}: {stack.address}/runs/{run_id}/" in told
    assert told.count("ended by SIGKILL: a new one is started, and the training continues") == 2
    assert re.search(rf"run {run_id} stopped at step {row['step']}\.\n", told)
    assert host.token not in told + host.output("out.log")


def opened_run(stack: Stack, name: str) -> int:
    found = rows(stack, "SELECT id FROM runs_run WHERE name = ?", name)
    return int(found[0]["id"]) if found else 0


def journal_bytes(host: TrainingHost) -> int:
    return sum(path.stat().st_size for path in host.launch.glob("attempts/*/journal-*.bin"))


def send(stack: Stack, run_id: int, command: str, **fields: object) -> None:
    """Record a command as a page does, in a process that has Django."""
    program = (
        "from runs.commands.record import record\nfrom runs.protocol.commands import parse_command\n"
        f"asked = parse_command({{'command': {command!r}, 'arguments': {fields!r}}})\n"
        f"record({run_id}, asked, author_id=None, author_name='Ada')"
    )
    stack.manage("shell", "-v", "0", "-c", program)


def states(stack: Stack, run_id: int) -> dict[str, str]:
    found = rows(stack, "SELECT kind, state FROM runs_command WHERE run_id = ?", run_id)
    return {row["kind"]: row["state"] for row in found}


def points(stack: Stack, run_id: int, series: str = "train/loss") -> list[int]:
    """Return the step of every stored point of a series."""
    program = (
        "import json\nfrom tests.support.killing import stored_points\n"
        f"print(json.dumps([step for _, _, step, _ in stored_points({run_id}, {series!r})]))"
    )
    found: list[int] = json.loads(stack.manage("shell", "-v", "0", "-c", program).stdout)
    return found


def test_the_exit_code_is_that_of_the_training(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script("import steersman, sys\nsteersman.attach().log(1, loss=1.0)\nsys.exit(7)", "seven.py")
    words = ("run", "--project", "lab", "--", "python", "seven.py", "a secret of this host")
    assert ended(host.start(*words, SERVICE_TOKEN="a secret of this host"), host) == 7
    run_id = opened_run(stack, "seven.py")
    assert run_row(stack, run_id)["state"] == "failed"
    told = rows(stack, "SELECT started, folder FROM runs_remotelaunch WHERE run_id = ?", run_id)[0]
    assert json.loads(told["started"]) == ["steersman", *words[:-1], "<secret>"] and told["folder"] == "~"
    host.script("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed.py")
    assert ended(host.start("run", "--", "python", "killed.py"), host) == 137
    host.script("import steersman\nsteersman.attach().log(1, loss=1.0)", "good.py")
    assert ended(host.start("run", "--", "python", "good.py"), host) == 0
    assert run_row(stack, opened_run(stack, "good.py"))["state"] == "finished"
    assert ended(host.start("run", "--", "no-such-program"), host) == 127
    assert "no-such-program cannot be started: No such file or directory." in host.output("err.log")


def test_ctrl_c_stops_with_a_checkpoint_and_twice_at_once(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(TRAINING)
    command = host.start("run", "--name", "once", "--", "python", "train.py")
    wait_for(lambda: (run_id := opened_run(stack, "once")) and run_row(stack, run_id)["step"] > 5, "steps", PATIENCE_S)
    command.send_signal(signal.SIGINT)
    assert ended(command, host) == 0
    assert run_row(stack, opened_run(stack, "once"))["state"] == "stopped"
    host.script("import steersman, time\nsteersman.attach().log(1, loss=1.0)\nwhile True: time.sleep(1)", "deaf.py")
    command = host.start("run", "--", "python", "deaf.py")
    wait_for(lambda: (run_id := opened_run(stack, "deaf.py")) and run_row(stack, run_id)["step"], "a step", PATIENCE_S)
    command.send_signal(signal.SIGINT)
    wait_for(
        lambda: host.output("err.log").count("Press Ctrl-C again to end at once.") == 2, "the first stop", PATIENCE_S
    )
    command.send_signal(signal.SIGINT)
    assert ended(command, host) == 130


def test_a_crash_is_followed_by_another_attempt(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(
        "import steersman, sys, os\nrun = steersman.attach()\nrun.log(1, loss=1.0)\n"
        "first = not os.path.exists('been here')\nopen('been here', 'w').close()\n"
        "print('first' if first else 'second')\nsys.exit(3 if first else 0)",
        "crash.py",
    )
    assert ended(host.start("run", "--restarts", "1", "--", "python", "crash.py"), host) == 0
    run_id = opened_run(stack, "crash.py")
    row = run_row(stack, run_id)
    assert (row["state"], row["attempt"]) == ("finished", 2), host.printed()
    assert host.output("out.log").endswith("first\nsecond\n")
    assert "restart 1 of 1" in host.output("err.log")


def test_a_portal_that_is_away_keeps_no_training_from_starting(tmp_path: Path):
    with installation(tmp_path) as (stack, portal, host):
        host.script(TRAINING)
        command = host.start("run", "--wait", "0.5", "--", "python", "train.py")
        wait_for(lambda: journal_bytes(host) > 2000, lambda: f"the training\n{host.printed()}", PATIENCE_S)
        assert "cannot be reached" in host.output("err.log") and "The training starts now." in host.output("err.log")
        command.send_signal(signal.SIGTERM)
        assert ended(command, host) == 0
        assert "run `steersman sync` to send it" in host.output("err.log")
        assert ended(host.start("sync", "--wait", "0.2"), host) == 1 and str(host.launch) in host.output("out.log")
        host.script("import steersman, sys\nsteersman.attach().log(1, loss=1.0)\nsys.exit(7)", "seven.py")
        assert ended(host.start("run", "--wait", "0.2", "--", "python", "seven.py"), host) == 7
        portal.start()
        assert ended(host.start("sync"), host) == 0, host.printed()
        assert host.output("out.log").count("stopped at") == 1
        told = rows(
            stack,
            "SELECT state, exit_code FROM runs_run JOIN runs_attempt ON run_id = runs_run.id WHERE name = 'seven.py'",
        )
        assert told == [{"state": "failed", "exit_code": 7}]
        run_id = opened_run(stack, "train.py")
        row = run_row(stack, run_id)
        assert row["state"] == "stopped" and Counter(points(stack, run_id)) == Counter(range(1, row["step"] + 1))
        assert ended(host.start("sync"), host) == 0


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (("--", "python", "train.py"), {"STEERSMAN_TOKEN": "stm_wrong"}, "rejected this token"),
        (("--", "python", "train.py"), {"STEERSMAN_TOKEN": ""}, "There is no token for http://127.0.0.1"),
        (("--", "python", "train.py"), {"STEERSMAN_PORTAL": "portal"}, "is not the address of a portal"),
        (("--", "python", "train.py"), {"STEERSMAN_PORTAL": "", "STEERSMAN_TOKEN": ""}, "run steersman login https"),
        ((), {}, "give the program after --"),
        (("--", "missing.py"), {}, "there is no file missing.py"),
        (("--restarts", "-1", "--", "x"), {}, "give a whole number from 0 to"),
        (("--wait", "soon", "--", "x"), {}, "give a number of seconds"),
        (("--project", "night", "--", "python", "train.py"), {}, "not in night. Leave the project out, or log in with"),
        (("--", "python", "train.py"), {"STEERSMAN_STOP_SIGNAL": "KILL"}, "STEERSMAN_STOP_SIGNAL: 'KILL'"),
        (
            ("--nproc", "2", "--", "python", "train.py"),
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"},
            "torchrun sets the number of processes; leave out --nproc.",
        ),
        (
            ("--restarts", "2", "--", "python", "train.py"),
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1"},
            "give torchrun --max-restarts",
        ),
        (
            ("--", "python", "train.py"),
            {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"},
            "srun: the environment variables of this process do not identify a task",
        ),
        (
            ("--", "python", "train.py"),
            {
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_PROCID": "0",
                "SLURM_GTIDS": "0,2",
                "SLURM_NODEID": "0",
                "SLURM_STEP_NUM_NODES": "2",
            },
            "give srun --distribution=block",
        ),
    ],
)
def test_bad_input_starts_nothing(
    places: tuple[Stack, Portal, TrainingHost], words: tuple[str, ...], variables: dict[str, str], told: str
):
    stack, _, host = places
    before = rows(stack, "SELECT count(*) AS runs FROM runs_run")
    length = len(host.output("err.log"))
    assert ended(host.start("run", *words, **variables), host) == 2
    said = host.output("err.log")[length:]
    assert told in said and "Traceback" not in said
    assert rows(stack, "SELECT count(*) AS runs FROM runs_run") == before


def test_a_signal_ends_the_waiting_for_a_restart(tmp_path: Path):
    with installation(tmp_path, STEERSMAN_RESTART_PAUSE_S="600") as (stack, portal, host):
        portal.start()
        host.script("import steersman, sys\nsteersman.attach().log(1, loss=1.0)\nsys.exit(3)", "crash.py")
        command = host.start("run", "--restarts", "1", "--", "python", "crash.py")
        wait_for(lambda: "restart 1 of 1" in host.output("err.log"), lambda: f"the end\n{host.printed()}", PATIENCE_S)
        command.send_signal(signal.SIGINT)
        assert ended(command, host) == 3, host.printed()
        row = run_row(stack, opened_run(stack, "crash.py"))
        assert (row["state"], row["attempt"]) == ("stopped", 2)


def test_a_portal_of_another_version_is_named_before_anything_starts(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    source = host.package / "__init__.py"
    text = source.read_text()
    source.write_text(re.sub('__version__ = ".*"', '__version__ = "99.1"', text))
    try:
        for words, code in ((("login", stack.address), 1), (("run", "--", "python", "train.py"), 2)):
            length = len(host.output("err.log"))
            assert ended(host.start(*words), host) == code
            said = host.output("err.log")[length:]
            assert "but the host has 99.1: install " in said, said
        assert not (host.folder / ".config").exists()
    finally:
        source.write_text(text)
    assert ended(host.start("login", stack.address), host) == 0, host.printed()
    assert ended(host.start("run", "--", "python", "-c", "pass", STEERSMAN_TOKEN="", STEERSMAN_PORTAL=""), host) == 0
    other = stack.manage("create_token", "--project", "lab", "--user", "operator", "--scope", "view").stdout.strip()
    assert ended(host.start("login", stack.address, STEERSMAN_TOKEN=other), host) == 1
    assert "Only a token with the scope train" in host.output("err.log")


RESUMING = """
import os, time
import steersman, torch

run = steersman.attach()
rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
checkpoint = run.newest_checkpoint()
first = checkpoint.step if checkpoint else 0
run.begin_at(first)
print("from", first, "with", rate.value, flush=True)
for step in range(first + 1, 7):
    run.log(step, loss=1.0 / step)
    run.save_checkpoint("last", {"step": step}, step=step)
    while step == 4 and not first and rate.value != 0.5:
        assert not run.stopping
        time.sleep(0.01)
    if step == 4 and not first:
        os.kill(os.getpid(), 9)
"""


def test_a_restart_resumes_from_the_newest_checkpoint(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(RESUMING, "resume.py")
    # The environment of the script has torch, and finds the package although it is installed elsewhere.
    command = host.start("run", "--restarts", "1", "--", sys.executable, "resume.py")
    run_id = wait_for(lambda: opened_run(stack, "resume.py"), lambda: f"the run\n{host.printed()}", PATIENCE_S)
    wait_for(lambda: run_row(stack, run_id)["step"] == 4, lambda: f"step 4\n{host.printed()}", PATIENCE_S)
    # Its checkpoint is older than this change.
    send(stack, run_id, "set_knob", knob="rate", value=0.5)
    assert ended(command, host) == 0, host.printed()
    assert host.output("out.log").endswith("from 0 with 0.1\nfrom 4 with 0.5\n")
    assert Counter(points(stack, run_id, "loss")) == Counter(range(1, 7))
    assert (run_row(stack, run_id)["state"], run_row(stack, run_id)["attempt"]) == ("finished", 2)


CONTINUING = """
import os, sys, time
import steersman, torch

run = steersman.attach()
checkpoint = run.newest_checkpoint()
first = checkpoint.step if checkpoint else 0
run.begin_at(first)
print("from", first, flush=True)
run.log(first + 1, loss=1.0)
run.save_checkpoint("last", {"step": first + 1}, step=first + 1)
while not first and not os.path.exists("go on"):
    time.sleep(0.01)
sys.exit(0 if first else 7)
"""


def test_a_launch_with_a_known_key_continues_its_run(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(CONTINUING, "keyed.py")
    words = ("run", "--key", "job/7", "--name", "keyed", "--", sys.executable, "keyed.py")
    command = host.start(*words)
    run_id = wait_for(lambda: opened_run(stack, "keyed"), lambda: f"the run\n{host.printed()}", PATIENCE_S)
    wait_for(lambda: run_row(stack, run_id)["step"] == 1, lambda: f"a step\n{host.printed()}", PATIENCE_S)
    assert ended(host.start(*words), host) == 3
    assert "another process already runs the launch job/7" in host.output("err.log")
    (host.folder / "go on").touch()
    assert ended(command, host) == 7
    assert ended(host.start(*words), host) == 0, host.printed()
    assert host.output("out.log").endswith("from 0\nfrom 1\n") and host.output("out.log").count("from 0\n") == 1
    row = run_row(stack, run_id)
    assert (row["state"], row["attempt"], row["step"]) == ("finished", 2, 2)
    assert ended(host.start(*words), host) == 2
    assert f"Run {run_id} has finished" in host.output("err.log")
    assert len(list((host.folder / "steersman-runs" / "launches").glob("*-job-7"))) == 1


def test_several_processes_are_one_run(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(
        "import os, steersman\nrun = steersman.attach()\nrank = int(os.environ['RANK'])\n"
        "print(f'rank {rank}', flush=True)\nrun.log(1, loss=1.0)",
        "ranks.py",
    )
    assert ended(host.start("run", "--nproc", "2", "--", "python", "ranks.py"), host) == 0, host.printed()
    row = run_row(stack, opened_run(stack, "ranks.py"))
    assert (row["state"], row["ranks"]) == ("finished", 2)
    assert {"rank 0", "rank 1"} <= set(host.output("out.log").splitlines())


UNTIL_ENOUGH = """
import os, time
import steersman

run = steersman.attach()
step = 0
while not os.path.exists("enough"):
    step += 1
    run.log(step, {"train/loss": 1.0 / step})
    time.sleep(0.005)
"""


def test_a_training_outlives_all_that_watches_it(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(UNTIL_ENOUGH, "until.py")
    command = host.start("run", "--", "python", "until.py")
    run_id = wait_for(lambda: opened_run(stack, "until.py"), lambda: f"the run\n{host.printed()}", PATIENCE_S)

    def goes_on() -> None:
        step = run_row(stack, run_id)["step"]
        wait_for(lambda: run_row(stack, run_id)["step"] > step + 20, lambda: f"steps\n{host.printed()}", PATIENCE_S)

    goes_on()
    command.kill()
    command.wait()
    goes_on()
    host.kill_host_process()
    worker = host.worker()
    syncing = host.start("sync")
    goes_on()
    assert host.worker() == worker and syncing.poll() is None
    (host.folder / "enough").touch()
    assert ended(syncing, host) == 0, host.printed()
    row = run_row(stack, run_id)
    assert (row["state"], row["attempt"]) == ("finished", 1)
    assert Counter(points(stack, run_id)) == Counter(range(1, row["step"] + 1))
