"""`steersman run` over nginx with TLS and a path prefix, with the configuration of docs/deployment.md."""

from __future__ import annotations

import pytest

from tests.remote.test_run import PATIENCE_S, TRAINING
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import rows, run_row, seed_stack, wait_for
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
