"""`steersman agent` on a host without Django: takes, follows, resumes and refuses runs that people request."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.agents.lab import AGENT, HOSTILE, TRAINING, Lab, checkpoint_at, parent_of, three_starts
from tests.remote.test_run import PATIENCE_S, ended, installation, send
from tests.support.stack import rows, run_row, wait_for


def test_an_agent_starts_follows_and_resumes_what_people_request(tmp_path: Path):
    with installation(tmp_path, STEERSMAN_RESTART_PAUSE_S="0.1") as (stack, portal, host):
        portal.start()
        lab = Lab(stack, host)
        host.script(TRAINING)
        (host.folder / "agent.toml").write_text(AGENT)
        agent = host.start("agent")
        wait_for(lab.is_online, lambda: f"the agent\n{host.printed()}", PATIENCE_S)
        assert "takes a whole number from 1 to 300, not 301." in lab.refusal(epochs=301)

        first = lab.request(parameters={"tag": HOSTILE, "epochs": 7, "rate": 0.5}, restarts=1, name="first")
        lab.reaches(first, "running")
        seen = json.loads((host.folder / "seen-7.json").read_text())
        assert seen == [[HOSTILE, "--epochs=7"], "0.5", None]
        assert not (host.folder / "pwned").exists()
        second = lab.request(parameters={"epochs": 8})
        place = lab.api(f"runs/{second}/place/")["place"]
        assert place["text"].startswith("1st in line for the agent gpu7"), place

        # The training outlives its agent, which holds the slot again when it is back.
        worker = host.worker()
        agent.kill()
        agent.wait()
        agent = host.start("agent")
        wait_for(
            lambda: host.output("err.log").count("is online") == 2, lambda: f"it again\n{host.printed()}", PATIENCE_S
        )
        assert run_row(stack, second)["state"] == "queued" and host.worker() == worker

        # Whatever follows the training is killed: the agent has it followed again.
        followed = host.host_process
        assert followed is not None
        os.kill(parent_of(followed), signal.SIGKILL)
        os.kill(followed, signal.SIGKILL)
        wait_for(lambda: host.host_process not in (None, followed), "another host process", PATIENCE_S)
        wait_for(lambda: run_row(stack, first)["state"] == "running", "its reports", PATIENCE_S)
        assert host.worker() == worker

        checkpoint_at(lab, first)
        os.kill(worker, signal.SIGKILL)
        lab.reaches(first, "running", attempt=2)
        send(stack, first, "stop")
        lab.reaches(first, "stopped", attempt=2)
        pushed = "SELECT step FROM runs_checkpoint WHERE run_id = ? AND pushed_at IS NOT NULL"
        wait_for(lambda: rows(stack, pushed, first), lambda: f"a pushed checkpoint\n{host.printed()}", PATIENCE_S)
        lab.reaches(second, "running")
        lab.api(f"runs/{first}/queue/", {})
        assert run_row(stack, first)["state"] == "queued"
        send(stack, second, "stop")
        lab.reaches(first, "running", attempt=3)
        logs = host.folder / "steersman-runs" / "agents" / "gpu7" / "logs"
        log = wait_for(lambda: three_starts(logs / f"{first}.log"), "the third start", PATIENCE_S)
        assert log[0] == 0 < log[-2] <= log[-1], log
        assert "manage.py" not in (logs / f"{first}.log").read_text()

        other = host.start("agent", STEERSMAN_DATA=str(host.folder / "elsewhere"))
        assert ended(other, host) == 2
        assert "Another agent named gpu7 is online on" in host.output("err.log")

        agent.send_signal(signal.SIGTERM)
        assert ended(agent, host) == 0
        assert not lab.is_online() and run_row(stack, first)["state"] == "running"
        late = lab.request(parameters={"epochs": 200})
        assert "no online agent can start the run" in lab.api(f"runs/{late}/place/")["place"]["text"]
        send(stack, first, "stop")
        lab.reaches(first, "stopped", attempt=3)

        # What the agent offers now decides, not what it offered when the run was requested.
        missing = f'[commands.gone]\nprogram = ["{host.folder}/gone.py"]\n'
        (host.folder / "agent.toml").write_text(AGENT.replace("300", "5") + missing)
        agent = host.start("agent")
        wait_for(lambda: run_row(stack, late)["state"] == "failed", lambda: f"a refusal\n{host.printed()}", PATIENCE_S)
        assert run_row(stack, late)["reason"] == "epochs takes a whole number from 1 to 5, not 200."
        wait_for(lambda: len(lab.api("agents/")["items"][0]["commands"]) == 2, "the new offer", PATIENCE_S)
        gone = lab.request(command="gone")
        wait_for(lambda: run_row(stack, gone)["state"] == "failed", lambda: f"a reason\n{host.printed()}", PATIENCE_S)
        assert run_row(stack, gone)["reason"].startswith("program: there is no file ~/gone.py;")
        portal.kill()
        wait_for(lambda: "cannot be reached" in host.output("err.log"), "the outage", PATIENCE_S)
        portal.start()
        wait_for(lab.is_online, lambda: f"the agent\n{host.printed()}", PATIENCE_S)
        agent.send_signal(signal.SIGTERM)
        assert ended(agent, host) == 0
