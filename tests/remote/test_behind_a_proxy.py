"""`steersman run` over nginx with TLS, as docs/deployment.md configures it, and over one without WebSockets."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.remote.test_run import PATIENCE_S, TRAINING, points
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, rows, run_row, seed_stack, wait_for
from tests.support.tls.behind_nginx import BehindNginx, nginx_program

pytestmark = pytest.mark.skipif(nginx_program() is None, reason="nginx is not installed: apt-get install nginx")


def test_a_training_reports_and_is_stopped_over_tls_and_a_prefix(tmp_path, monkeypatch) -> None:
    with BehindNginx("/steersman") as stack:
        seed_stack(stack)
        stack.start_redis()
        monkeypatch.setenv("SSL_CERT_FILE", stack.certificate)
        Portal(stack).start()
        host = TrainingHost(stack, tmp_path / "host")
        # A token of the environment would take the place of the login.
        token = host.environment.pop("STEERSMAN_TOKEN")
        del host.environment["STEERSMAN_PORTAL"]
        try:
            strange = host.start("login", stack.address, STEERSMAN_TOKEN=token)
            assert strange.wait(PATIENCE_S) == 1, host.printed()
            assert "is not trusted" in host.output("err.log") and "SSL_CERT_FILE" in host.output("err.log")
            host.environment["SSL_CERT_FILE"] = stack.certificate
            assert host.start("login", stack.address, STEERSMAN_TOKEN=token).wait(PATIENCE_S) == 0, host.printed()
            host.script(TRAINING)
            training = host.start("run", "--name", "far", "--", "python", "train.py")
            stored = "SELECT id FROM runs_run WHERE name = 'far' AND step > 0"
            [run] = wait_for(
                lambda: rows(stack, stored), lambda: f"points\n{host.printed()}\n{stack.log()}", PATIENCE_S
            )
            assert f"{stack.address}/runs/{run['id']}/" in host.output("err.log")
            stack.manage("command", str(run["id"]), "set_knob", "rate=0.5", "--wait", "60")
            stack.manage("command", str(run["id"]), "stop")
            assert training.wait(PATIENCE_S) == 0, host.printed()
            assert "with 0.5" in host.output("out.log")
            assert run_row(stack, run["id"])["state"] == "stopped"
        finally:
            host.close()


WITHOUT_END = """
import time
import steersman

run = steersman.attach()
rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
step = 0
while not run.stopping:
    step += 1
    run.log(step, {"train/loss": 1.0 / step})
    time.sleep(0.01)
print("with", rate.value, flush=True)
"""


def test_a_training_reports_and_is_steered_through_a_proxy_without_websockets(tmp_path, monkeypatch) -> None:
    """By long requests, also after `manage.py record` and the process on the host were killed with -9."""
    with BehindNginx(upgrades=False) as stack:
        seed_stack(stack)
        stack.start_redis()
        monkeypatch.setenv("SSL_CERT_FILE", stack.certificate)
        portal = Portal(stack)
        portal.start()
        host = TrainingHost(stack, tmp_path / "host")
        host.environment["SSL_CERT_FILE"] = stack.certificate
        try:
            assert host.start("login", stack.address).wait(PATIENCE_S) == 0, host.printed()
            assert "No WebSocket reaches" in host.output("err.log")
            host.script(WITHOUT_END)
            before = len(host.output("err.log"))
            training = host.start("run", "--name", "far", "--", "python", "train.py")
            stored = "SELECT id FROM runs_run WHERE name = 'far' AND step > 0"
            [run] = wait_for(lambda: rows(stack, stored), f"points\n{host.printed()}", PATIENCE_S)

            def goes_on() -> None:
                step = run_row(stack, run["id"])["step"]
                wait_for(
                    lambda: run_row(stack, run["id"])["step"] > step,
                    f"points\n{host.printed()}\n{stack.log()}",
                    PATIENCE_S,
                )

            portal.restart("record")
            goes_on()
            killed = host.kill_host_process()
            wait_for(lambda: host.host_process not in (None, killed), "another host process", PATIENCE_S)
            goes_on()
            stack.manage("command", str(run["id"]), "set_knob", "rate=0.5", "--wait", "60")
            stack.manage("command", str(run["id"]), "stop")
            assert training.wait(PATIENCE_S) == 0, host.printed()
            assert "with 0.5" in host.output("out.log")
            row = run_row(stack, run["id"])
            assert (row["state"], row["attempt"]) == ("stopped", 1)
            assert Counter(points(stack, run["id"])) == Counter(range(1, row["step"] + 1))
            # Once for each host process.
            assert host.output("err.log")[before:].count("Long HTTPS requests are used") == 2
        finally:
            host.close()


def test_a_person_may_choose_long_requests_and_a_portal_passes_them_on(tmp_path) -> None:
    """Without a proxy, the portal hands each request to the process that records."""
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        Portal(stack).start()
        host = TrainingHost(stack, tmp_path / "host")
        host.script(WITHOUT_END)
        try:
            words = ("run", "--name", "near", "--", "python", "train.py")
            assert host.start(*words, STEERSMAN_LINK="pigeon").wait(PATIENCE_S) == 2
            assert "STEERSMAN_LINK: 'pigeon' is not a kind of connection" in host.output("err.log")
            training = host.start(*words, STEERSMAN_LINK="https")
            stored = "SELECT id FROM runs_run WHERE name = 'near' AND step > 0"
            [run] = wait_for(lambda: rows(stack, stored), f"points\n{host.printed()}", PATIENCE_S)
            stack.manage("command", str(run["id"]), "stop")
            assert training.wait(PATIENCE_S) == 0, host.printed()
            row = run_row(stack, run["id"])
            assert row["state"] == "stopped"
            assert Counter(points(stack, run["id"])) == Counter(range(1, row["step"] + 1))
        finally:
            host.close()
