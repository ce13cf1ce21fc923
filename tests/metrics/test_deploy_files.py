"""The files for Prometheus and Grafana request existing metrics and conform to Grafana's schema of dashboards."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runs.metrics.families import FAMILIES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARDS = sorted((DEPLOY / "grafana" / "boards").glob("*.json"))
PROMTOOL = shutil.which("promtool")
AMTOOL = shutil.which("amtool")
SERIES = {
    each.name + end
    for each in FAMILIES
    for end in {"summary": ("_sum", "_count"), "histogram": ("_bucket", "_sum", "_count")}.get(each.kind, ("",))
}
LABELS = {each.name: set(each.labels) for each in FAMILIES}


def expressions(path: Path) -> Iterator[str]:
    """Yield the expressions of a dashboard or of the rules."""
    if path.suffix == ".yml":
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["expr"] for rule in group["rules"])
        return
    board = json.loads(path.read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (note["expr"] for note in board["annotations"]["list"])
    yield from (each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query")


@pytest.mark.parametrize("path", [*BOARDS, DEPLOY / "prometheus" / "rules.yml"], ids=lambda path: path.name)
def test_each_metric_that_is_asked_for_exists(path: Path) -> None:
    asked = list(expressions(path))
    assert asked
    for expression in asked:
        for name, chosen in re.findall(r"\b(steersman_\w+)(?:\{([^}]*)\})?", expression):
            assert name in SERIES, expression
            labels = LABELS[name if name in LABELS else re.sub(r"_(sum|count|bucket)$", "", name)]
            assert set(re.findall(r"(\w+)\s*[=!]", chosen)) <= labels, expression


def test_there_are_two_boards_and_together_they_show_every_part() -> None:
    assert [path.stem for path in BOARDS] == ["run", "service"]
    shown = {name for path in BOARDS for each in expressions(path) for name in re.findall(r"steersman_\w+", each)}
    for part in ("_gpu_", "_portal_", "_interventions_", "_alerts", "_deliveries", "_transaction_", "_journal_"):
        assert any(part in name for name in shown), part


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_is_as_grafana_wants_it(path: Path) -> None:
    board: dict[str, Any] = json.loads(path.read_text())
    assert board["id"] is None and re.fullmatch(r"[\w-]{1,40}", board["uid"]) and board["title"]
    assert isinstance(board["schemaVersion"], int) and board["schemaVersion"] >= 36
    panels = board["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids)) and all(isinstance(number, int) and number > 0 for number in ids)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        x, y, w, h = (place[name] for name in "xywh")
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 24, panel["title"]
        own = set(itertools.product(range(x, x + w), range(y, y + h)))
        assert not own & cells, f"{panel['title']} lies on another panel"
        cells |= own
        letters = [target["refId"] for target in panel["targets"]]
        assert letters and len(letters) == len(set(letters))
        assert panel["title"] and panel["type"] in {"timeseries", "stat"}
    source = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*panels, *(t for panel in panels for t in panel["targets"]), *board["annotations"]["list"]]
    variables = {each["name"]: each for each in board["templating"]["list"]}
    asking += [each for each in variables.values() if each["type"] == "query"]
    assert all(each["datasource"] == source for each in asking)
    # Every variable in an expression belongs to the dashboard or to Grafana.
    used = {name for each in expressions(path) for name in re.findall(r"\$\{?(\w+)", each)}
    assert {name for name in used if not name.startswith("__")} <= variables.keys()
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/steersman.yml").read_text())
    assert variables["datasource"]["current"]["value"] == provisioned["datasources"][0]["uid"]
    assert {each["name"] for each in board["annotations"]["list"]} == {"Commands that took effect", "Alerts that began"}


def test_no_two_boards_have_the_same_name() -> None:
    boards = [json.loads(path.read_text()) for path in BOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "--syntax-only", "prometheus.yml"), ("check", "rules", "rules.yml"),
     ("test", "rules", "rules_test.yml")],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_promtool_accepts_the_files(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed (Debian's package prometheus-alertmanager)")
@pytest.mark.parametrize(
    ("severity", "receiver"), [("warning", "mail"), ("critical", "mail-and-webhook"), ("info", "mail")]
)
def test_alertmanager_takes_its_file_and_sends_by_severity(severity: str, receiver: str) -> None:
    def asked(*arguments: str) -> str:
        assert AMTOOL is not None
        done = subprocess.run(
            [AMTOOL, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    asked("check-config", "alertmanager.yml")
    routed = asked("config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
    assert routed == receiver


def test_alertmanager_knows_the_severities_and_names_of_the_rules() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
    told = yaml.safe_load((DEPLOY / "prometheus" / "alertmanager.yml").read_text())
    severities = {rule["labels"]["severity"] for rule in rules}
    for route in told["route"]["routes"]:
        for matcher in route["matchers"]:
            assert matcher.split('"')[1] in severities, matcher
    for each in told["inhibit_rules"]:
        for matcher in (*each["source_matchers"], *each["target_matchers"]):
            assert matcher.split('"')[1] in {rule["alert"] for rule in rules}, matcher


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus_compose.yml"])
def test_prometheus_sends_alerts_to_alertmanager(name: str) -> None:
    told = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
    [manager] = told["alerting"]["alertmanagers"]
    [target] = manager["static_configs"][0]["targets"]
    services = yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())["services"]
    assert target == ("alertmanager:9093" if "compose" in name else "localhost:9093")
    assert {"alertmanager", "prometheus"} <= services.keys()
    assert "metrics" in services["alertmanager"]["networks"] and "metrics" in services["prometheus"]["networks"]


def test_each_rule_is_tried() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
    tried = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"][0]["alert_rule_test"]
    assert {rule["alert"] for rule in rules} == {each["alertname"] for each in tried if each["exp_alerts"]}
