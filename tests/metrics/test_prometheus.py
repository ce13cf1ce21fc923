"""A live run in two web processes, and in the real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets import Subprotocol
from websockets.sync.client import ClientConnection, connect

from runs.metrics.families import FAMILIES
from tests.support.prometheus import prometheus_command, replaced
from tests.support.prometheus import query as prometheus_query
from tests.support.stack import ROOT, Stack, create_run, free_port, rows, started_stack, wait_for
from tests.support.watcher import ticket_of

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
PATIENCE_S = 60.0
# The host has no GPU, and there are no alert messages to send.
WITHOUT_DATA = {each.name for each in FAMILIES if "_gpu_" in each.name} | {"steersman_deliveries"}


@dataclass
class Scene:
    """A stack with a live run, a second web process, and tokens."""

    stack: Stack
    run_id: int
    ports: tuple[int, int]
    metrics_token: str
    command_token: str
    second: subprocess.Popen[bytes]

    def viewer(self, port: int, token: str = "") -> ClientConnection:
        """Return a socket that follows the run, authenticated by `token`."""
        ticket = ticket_of(self.stack, self.run_id, token or self.command_token)
        protocols = [Subprotocol("steersman.v1"), Subprotocol(f"ticket.{ticket}")]
        return connect(f"ws://127.0.0.1:{port}/ws/runs/{self.run_id}/", subprotocols=protocols, max_size=None)

    def text(self, port: int) -> str:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {self.metrics_token}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(answer.read().decode())

    def closes(self, port: int) -> float:
        """Return how many sockets were closed, whatever the code."""
        families = text_string_to_metric_families(self.text(port))
        return sum(each.value for f in families for each in f.samples if each.name == "steersman_portal_closes_total")

    def service(self, port: int) -> dict[str, float]:
        """Return the values of the metrics without labels."""
        families = text_string_to_metric_families(self.text(port))
        return {each.name: each.value for family in families for each in family.samples if not each.labels}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with started_stack() as stack:
        second = free_port()
        log = (stack.folder / "second.log").open("wb")
        command = stack.command("serve_portal", "--port", str(second))
        portal = subprocess.Popen(command, env=stack.environment, stdout=log, stderr=log)
        try:
            run_id = create_run(stack)
            stack.train(run_id, "--", str(ROOT / "tests" / "metrics" / "measured_training.py"))
            made = [
                stack.manage("create_token", "--project", "lab", "--scope", scope, "--user", "operator").stdout.strip()
                for scope in ("metrics", "command")
            ]
            found = Scene(stack, run_id, (stack.port, second), made[0], made[1], portal)

            def answers() -> bool:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{second}/readyz", timeout=60) as answer:
                        return bool(json.load(answer)["ready"])
                except OSError:
                    return False

            wait_for(answers, lambda: f"the second portal\n{stack.log()}")
            wait_for(lambda: rows(stack, "SELECT 1 FROM runs_alert"), lambda: f"the alert\n{stack.log()}")
            yield found
        finally:
            portal.kill()
            portal.wait()
            log.close()


def test_two_processes_tell_the_same_sum(scene: Scene) -> None:
    name = "steersman_portal_events_total"
    with ExitStack() as sockets:
        for port in (scene.ports[0], *scene.ports):
            sockets.enter_context(scene.viewer(port))
        for port in scene.ports:
            wait_for(lambda port=port: scene.service(port)["steersman_portal_viewers"] == 3, "three viewers")
        seen = [scene.service(scene.ports[0])[name]]
        for turn in range(10):
            found = scene.service(scene.ports[turn % 2])
            assert found["steersman_portal_viewers"] == found["steersman_portal_sockets"] == 3
            assert found["steersman_portal_watched_runs"] == 2
            seen.append(found[name])
        assert seen == sorted(seen)
        wait_for(lambda: scene.service(scene.ports[1])[name] > seen[0], "more events")
        told = "steersman_portal_announce_to_socket_seconds_count"
        wait_for(lambda: scene.service(scene.ports[0])[told] > 0, "the time of an event")
    for port in scene.ports:
        wait_for(lambda port=port: scene.service(port)["steersman_portal_viewers"] == 0, "nobody")
        wait_for(lambda port=port: scene.closes(port) == 3, "three closes")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")
def test_promtool_finds_nothing_wrong_with_what_it_tells(scene: Scene) -> None:
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=scene.text(scene.ports[0]), capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian's package prometheus)")
def test_the_real_prometheus_finds_a_live_run(scene: Scene, tmp_path: Path) -> None:
    assert PROMETHEUS is not None
    asked = urllib.request.Request(
        f"http://127.0.0.1:{scene.ports[0]}/api/runs/{scene.run_id}/commands/",
        json.dumps({"command": "note", "arguments": {"text": "looks fine"}}).encode(),
        {"Authorization": f"Bearer {scene.command_token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(asked, timeout=60).close()
    token = tmp_path / "token"
    token.write_text(scene.metrics_token)
    (tmp_path / "rules.yml").write_text((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    changes = (
        ("/etc/prometheus/steersman_token", str(token)),
        ("localhost:8765", f"127.0.0.1:{scene.ports[1]}"),
        ("15s", "1s"),
    )
    told = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(replaced(told, changes))
    port = free_port()
    log = (tmp_path / "prometheus.log").open("wb")
    prometheus = subprocess.Popen(prometheus_command(PROMETHEUS, tmp_path, port), stdout=log, stderr=log)
    query = partial(prometheus_query, port)

    try:
        wait_for(lambda: query('up{job="steersman"} == 1'), f"a scrape\n{(tmp_path / 'prometheus.log').read_text()}")
        of = f'{{run="{scene.run_id}", project="lab"}}'
        for family in FAMILIES:
            if family.name in WITHOUT_DATA:
                continue
            name = family.name + {"summary": "_sum", "histogram": "_bucket"}.get(family.kind, "")
            asked_for = name + (of if "run" in family.labels else "")
            shown = wait_for(lambda asked_for=asked_for: query(asked_for), name)
            # A run of a script has no recipe, and Prometheus drops empty labels.
            assert set(family.labels) - {"recipe"} <= shown[0]["metric"].keys(), name
        wait_for(lambda: query(f'steersman_run_series_value{of[:-1]}, series="train/loss"}} < 1'), "the loss")
        assert not query(f'steersman_run_series_value{of[:-1]}, series="other"}}')
        wait_for(lambda: query(f"steersman_run_interventions_total{of} >= 1"), "the note")
        wait_for(lambda: query(f"rate(steersman_run_step{of}[10s]) > 0"), "steps")
        wait_for(lambda: query(f"steersman_run_steps_per_second{of} > 0"), "steps a second")
        wait_for(lambda: query(f"steersman_run_heartbeat_age_seconds{of} < 60"), "a heartbeat")
        # None of the project's rules fires while everything is in order; one that a busy machine fulfils is pending.
        assert not query('ALERTS{alertstate="firing", alertname!="SteersmanRunStalled"}')
    finally:
        prometheus.terminate()
        prometheus.wait(60)
        log.close()


def hears_of(viewer: ClientConnection, count: int) -> None:
    """Wait until a viewer receives that `count` people watch the run. Raises `TimeoutError`."""
    until = time.monotonic() + PATIENCE_S
    while True:
        frame = json.loads(viewer.recv(timeout=max(0.0, until - time.monotonic())))
        for message in frame if isinstance(frame, list) else [frame]:
            if message["kind"] == "watchers" and message["count"] == count:
                return


def test_viewers_of_a_process_that_was_killed_are_counted_no_more(scene: Scene) -> None:
    first, second = scene.ports
    made = scene.stack.manage("create_token", "--project", "lab", "--scope", "view", "--user", "operator")
    with scene.viewer(first, made.stdout.strip()) as other, scene.viewer(second), scene.viewer(second):
        wait_for(lambda: scene.service(first)["steersman_portal_viewers"] == 3, "three viewers")
        hears_of(other, 2)
        before = scene.closes(first), scene.service(first)["steersman_portal_events_total"]
        scene.second.kill()
        scene.second.wait()
        hears_of(other, 1)
        wait_for(lambda: scene.service(first)["steersman_portal_viewers"] == 1, "the end of what it held")
        told = scene.service(first)
        assert told["steersman_portal_sockets"] == told["steersman_portal_watched_runs"] == 1
        # Its counts remain: Prometheus would interpret a decreasing sum as a restart.
        assert scene.closes(first) >= before[0] and told["steersman_portal_events_total"] >= before[1]


def test_every_word_of_the_page_about_boards_and_rules_is_a_metric() -> None:
    names = {each.name for each in FAMILIES}
    for page in ("docs/deployment.md", "docs/metrics.md", "deploy/prometheus/rules.yml"):
        for word in re.findall(
            r"\bsteersman_(?:run|runs|series|portal|commands|alerts|deliveries)\w*", (ROOT / page).read_text()
        ):
            bare = re.sub(r"_(sum|count|bucket)$", "", word)
            assert word in names or bare in names or word == "steersman_portal_", (page, word)
