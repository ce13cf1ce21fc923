"""`steersman.start()`: runs that a script or a notebook starts in its own process, on a host without Django."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.test_run import PATIENCE_S, installation, opened_run, points, send, states
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, events, rows, run_row, wait_for

SEVERAL = """
import multiprocessing, os, sys, time
import steersman

def in_a_child(run):
    run.log(1000, {"train/loss": 0.0})
    steersman.attach().log(1000, {"train/loss": 0.0})
    return os.environ["STEERSMAN_ATTEMPT_FOLDER"] and str(run.directory)

if __name__ == "__main__":
    with steersman.start(project="lab", name="训练 <一>", rate=0.1) as run:
        try:
            steersman.start(name="second")
        except RuntimeError as error:
            print("refused:", error)
        assert steersman.attach() is run
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(in_a_child, [run]) == [str(run.directory)]
        pid = os.fork()
        if not pid:
            steersman.attach().log(2000, {"train/loss": 0.0})
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for step in range(1, 301):
            run.log(step, {"train/loss": 1.0 / step})
        print(repr(run))
        print(run._repr_html_())
    assert "STEERSMAN_ATTEMPT_FOLDER" not in os.environ
    run.log(301, {"train/loss": 0.0})
    try:
        with steersman.start(name="fails") as run:
            run.log(1, loss=1.0)
            raise ValueError("no such data")
    except ValueError:
        pass
    run = steersman.start(name="steered")
    rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
    step = 0
    while not run.stopping:
        step += 1
        run.log(step, {"train/loss": rate.value})
        # The end of a run waits for its unsent steps, but not for long.
        time.sleep(0.005)
    run.finish("stopped")
    run = steersman.start(name="interrupted")
    run.log(1, loss=1.0)
    raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Portal, TrainingHost]]:
    with installation(tmp_path_factory.mktemp("start")) as found:
        found[1].start()
        yield found


def ended(process: subprocess.Popen[bytes], host: TrainingHost) -> int:
    try:
        return process.wait(4 * PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the script did not end:\n{host.printed()}") from None


def test_one_process_trains_several_runs_one_after_another(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(SEVERAL, "several.py")
    script = host.start_python("several.py")
    run_id = wait_for(lambda: opened_run(stack, "steered"), lambda: f"the third run\n{host.printed()}", 2 * PATIENCE_S)
    wait_for(lambda: run_row(stack, run_id)["step"] > 10, lambda: f"its steps\n{host.printed()}", PATIENCE_S)
    killed = host.kill_host_process()
    wait_for(lambda: host.host_process not in (None, killed), "another host process", PATIENCE_S)
    send(stack, run_id, "set_knob", knob="rate", value=0.5)
    wait_for(
        lambda: states(stack, run_id) == {"set_knob": "applied"}, lambda: f"the knob\n{host.printed()}", PATIENCE_S
    )
    send(stack, run_id, "stop")
    assert ended(script, host) == 130 or script.returncode == -signal.SIGINT, host.printed()

    first = opened_run(stack, "训练 <一>")
    told = {name: run_row(stack, opened_run(stack, name))["state"] for name in ("训练 <一>", "fails", "interrupted")}
    assert told == {"训练 <一>": "finished", "fails": "failed", "interrupted": "stopped"}, host.printed()
    assert run_row(stack, run_id)["state"] == "stopped", host.printed()
    assert Counter(points(stack, first)) == Counter(range(1, 301))
    assert Counter(points(stack, run_id)) == Counter(range(1, run_row(stack, run_id)["step"] + 1))
    (row,) = rows(stack, "SELECT error, traceback FROM runs_attempt WHERE run_id = ?", opened_run(stack, "fails"))
    assert row["error"] == "ValueError: no such data" and "several.py" in row["traceback"]
    assert json.loads(run_row(stack, first)["parameters"]) == {"rate": 0.1}
    page = f"{stack.address}/runs/{first}/"
    out, err = host.output("out.log"), host.output("err.log")
    assert f"steersman: run {first}: {page}\n" in err
    assert f"steersman: run {first} '训练 <一>' finished at step 300: {page}\n" in err
    refusal = "steersman.start() was called before the previous run of this process ended"
    assert f"refused: {refusal}: steersman: run {first}" in out
    assert f'<a href="{page}" target="_blank" rel="noopener">训练 &lt;一&gt;</a>' in out
    assert host.token not in out + err


def test_a_process_that_is_killed_leaves_a_failed_run(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(
        "import steersman, os\nrun = steersman.start(name='killed')\nrun.log(1, loss=1.0)\nos.kill(os.getpid(), 9)",
        "killed.py",
    )
    assert ended(host.start_python("killed.py"), host) == -signal.SIGKILL
    run_id = wait_for(lambda: opened_run(stack, "killed"), lambda: f"the run\n{host.printed()}", PATIENCE_S)
    wait_for(lambda: run_row(stack, run_id)["state"] == "failed", "its end", PATIENCE_S)
    assert points(stack, run_id, "loss") == [1]


def test_under_steersman_run_it_is_attach_and_the_exit_of_a_script_is_its_end(
    places: tuple[Stack, Portal, TrainingHost],
):
    stack, _, host = places
    host.script("import steersman\nrun = steersman.start(name='other', rate=2)\nrun.log(1, loss=1.0)", "either.py")
    assert ended(host.start("run", "--name", "under run", "--", "python", "either.py"), host) == 0
    assert not opened_run(stack, "other")
    assert run_row(stack, opened_run(stack, "under run"))["state"] == "finished"
    assert ended(host.start_python("either.py"), host) == 0
    assert run_row(stack, opened_run(stack, "other"))["state"] == "finished", host.printed()


def test_without_a_portal_it_is_recorded_here_and_sent_later(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(
        "import steersman\nrun = steersman.start(name='offline', portal=['no address'])\nprint(run._repr_html_())\n"
        "for step in range(1, 201): run.log(step, {'train/loss': 1.0 / step})\n"
        "with run: raise SystemExit(3)",
        "offline.py",
    )
    nothing = {"STEERSMAN_PORTAL": "", "STEERSMAN_TOKEN": ""}
    length = len(host.output("err.log"))
    assert ended(host.start_python("offline.py", **nothing), host) == 3, host.printed()
    said = host.output("err.log")[length:]
    assert "is not the address of a portal" in said and "`steersman sync` sends it" in said, said
    assert "recorded on this machine, not yet in a portal" in host.output("out.log")
    assert not opened_run(stack, "offline")
    assert ended(host.start("sync", **nothing), host) == 1
    assert ended(host.start("sync"), host) == 0, host.printed()
    run_id = opened_run(stack, "offline")
    row = run_row(stack, run_id)
    assert row["state"] == "failed" and Counter(points(stack, run_id)) == Counter(range(1, 201)), host.printed()


def test_what_it_needs_may_be_missing(places: tuple[Stack, Portal, TrainingHost], tmp_path: Path):
    _, _, host = places
    host.script(
        "import steersman\nrun = steersman.start()\nrun.log(1, loss=1.0)\nrun.finish()\nprint('trained')", "bare.py"
    )

    def said(**variables: str) -> str:
        length = len(host.output("err.log"))
        assert ended(host.start_python("bare.py", **variables), host) == 0, host.printed()
        return host.output("err.log")[length:]

    assert "cannot be made" in (told := said(STEERSMAN_DATA="/proc/none")) and "Traceback" not in told
    psutil = host.package.parent / "psutil"
    psutil.rename(tmp_path / "psutil")
    try:
        assert "pip install 'steersman[agent]'" in (told := said()) and "Traceback" not in told
    finally:
        (tmp_path / "psutil").rename(psutil)
    assert host.output("out.log").count("trained\n") == 2


KERNEL = """
import json, sys, types

shown = open("shown.jsonl", "w")

class Handle:
    def update(self, run):
        shown.write(json.dumps(run._repr_mimebundle_()) + "\\n")
        shown.flush()

def display(run, display_id=False):
    handle = Handle()
    handle.update(run)
    return handle

module = sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython.display"] = types.ModuleType("IPython.display")
sys.modules["IPython.display"].display = display
module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
import steersman
run = steersman.start(name="in a notebook")
step = 0
while len(open("shown.jsonl").readlines()) < 2:
    step += 1
    run.log(step, loss=1.0 / step)
    assert not run.stopping
"""


def test_a_notebook_shows_a_card_that_follows_the_run(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(KERNEL, "kernel.py")
    assert ended(host.start_python("kernel.py", JPY_SESSION_NAME="/home/ada/notes.ipynb"), host) == 0, host.printed()
    run_id = opened_run(stack, "in a notebook")
    shown = [json.loads(line)["text/html"] for line in (host.folder / "shown.jsonl").read_text().splitlines()]
    assert f"{stack.address}/runs/{run_id}/" in shown[0] and "running</span> at step 0" in shown[0]
    assert "running</span>" in shown[1] and "at step 0" not in shown[1] and "stopped</span>" in shown[-1]
    # Nobody has said that it finished.
    assert run_row(stack, run_id)["state"] == "stopped"
    lines = [line["text"] for event in events(stack, run_id, "log") for line in event["lines"]]
    assert any("session ended before run.finish()" in line for line in lines)


def test_a_project_of_another_token_is_named_and_the_run_is_kept(places: tuple[Stack, Portal, TrainingHost]):
    stack, _, host = places
    host.script(
        "import steersman\nwith steersman.start(project='vision', name='kept') as run: run.log(1, loss=1.0)", "kept.py"
    )
    assert ended(host.start_python("kept.py"), host) == 0, host.printed()
    assert "project: This token creates runs in the project Lab, not in" in host.output("err.log")
    assert "'kept' is recorded in" in host.output("err.log") and not opened_run(stack, "kept")
    assert ended(host.start("run", "--project", "vision", "--", "python", "kept.py"), host) == 2
    assert ended(host.start("run", "--project", "lab", "--name", "lab's", "--", "python", "kept.py"), host) == 0
    assert run_row(stack, opened_run(stack, "lab's"))["state"] == "finished"
