"""compose.yaml without Docker: a live run over TLS, while each part of the installation is restarted once."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.production.installation import PORTALS, Production
from tests.support.browser import Complaints, log_in
from tests.support.prometheus import query
from tests.support.stack import ROOT, wait_for

# Prometheus is not restarted, because trainings do not depend on it.
RESTARTED = ("web1", "web2", "trainer", "redis", "postgres", "proxy")
# The first portal created an account with an unknown password, and its project.
SEED = """
from django.contrib.auth.models import User
from runs.models import Membership, Project
operator = User.objects.create_user("operator", password="operator")
Membership.objects.create(project=Project.objects.get(slug="lab"), user=operator, role="operator")
"""


@pytest.fixture(scope="module")
def production() -> Iterator[Production]:
    with Production() as found:
        found.stack.manage("shell", "-v", "0", "-c", SEED)
        yield found


def asked(production: Production, path: str, token: str) -> Any:
    request = urllib.request.Request(production.address + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60, context=production.trusting) as answer:
        return json.load(answer)


def test_a_run_is_live_over_tls_and_loses_no_point_while_every_part_is_restarted(
    production: Production, chromium: Browser
) -> None:
    stack = production.stack
    token = stack.manage("create_token", "--project", "lab", "--scope", "command", "--user", "operator").stdout.strip()
    run_id = int(stack.manage("create_run", "--project", "lab", "--name", "long", "--quiet").stdout)
    training = stack.train(run_id, "--", str(ROOT / "tests" / "metrics" / "measured_training.py"))
    context = chromium.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints = Complaints(page)
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    log_in(page, production.address, "operator", "operator")
    cookies = context.cookies()
    assert cookies and all(cookie["secure"] for cookie in cookies)
    page.goto(f"{production.address}/runs/{run_id}/")
    is_live(page)
    assert sockets and all(url.startswith(f"wss://localhost:{production.ports['proxy']}/ws/") for url in sockets)
    assert not complaints.lines

    for name in RESTARTED:
        production.stop(name, kill=name != "trainer")
        production.start(name)
        is_live(page)
    production.reload_proxy()
    is_live(page)
    assert production.portals_in_access_log() == set(PORTALS)
    assert training.poll() is None, production.log()

    command = json.dumps({"command": "stop", "arguments": {}}).encode()
    address = f"{production.address}/api/runs/{run_id}/commands/"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    urllib.request.urlopen(
        urllib.request.Request(address, command, headers), timeout=60, context=production.trusting
    ).close()
    assert training.wait(120) == 0, production.log()
    told = asked(production, f"/api/runs/{run_id}/", token)
    assert told["state"] in ("stopped", "finished") and told["attempt"] == 1
    steps = steps_of(production, run_id, token)
    assert steps == list(range(1, told["step"] + 1))
    wait_for(lambda: step_shown(page) == steps[-1], f"step {steps[-1]} on the page")
    context.close()


def test_the_trainer_publishes_recipes_and_portals_say_nothing_of_pytorch(production: Production) -> None:
    count = "from runs.models import Recipe; print(Recipe.objects.filter(spec='mnist').count())"
    wait_for(lambda: production.stack.manage("shell", "-v", "0", "-c", count).stdout.strip() == "1", "the recipes")
    for name in PORTALS:
        assert "PyTorch" not in (production.folder / f"{name}.log").read_text(), name


def test_prometheus_sees_the_installation_through_the_proxy(production: Production) -> None:
    port = production.ports["prometheus"]
    wait_for(lambda: query(port, 'up{job="steersman"} == 1'), "a scrape")
    wait_for(lambda: query(port, "steersman_portal_sockets"), "a metric of the portals")
    request = urllib.request.Request(f"{production.address}/metrics", headers={"X-Forwarded-For": "172.30.87.2"})
    with urllib.request.urlopen(request, timeout=60, context=production.trusting) as answer:
        assert answer.status == 200  # this machine is allowed to request it


def test_no_process_wrote_a_secret(production: Production) -> None:
    secrets = [*production.passwords.values(), production.postgres.password]
    logs = list(production.folder.glob("*.log"))
    assert {f"{name}.log" for name in PORTALS} <= {path.name for path in logs}
    for path in logs:
        text = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], path.name
        assert "ticket." not in text and "token=" not in text, path.name


def is_live(page: Page) -> None:
    """Wait until the page follows the run and new data arrives."""
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live", timeout=120_000)
    before = step_shown(page)
    wait_for(lambda: step_shown(page) > before + 20, f"a step beyond {before}")


def step_shown(page: Page) -> int:
    shown, _, _planned = page.get_by_test_id("step").inner_text().partition("/")
    return int(re.sub(r"\D", "", shown))


def steps_of(production: Production, run_id: int, token: str) -> list[int]:
    """Return the steps of all points of the loss, as logged."""
    found: list[int] = []
    path = f"/api/runs/{run_id}/points/?name=train/loss&raw=true"
    while path:
        page = asked(production, path, token)
        found += [step for stretch in page["items"] for step in stretch["steps"]]
        path = page["next"]
    return found
