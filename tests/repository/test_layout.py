"""Packages and arrows: no file imports what its package may not, and docs/architecture.md shows the real packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import layout
from tests.layout import ROOT, Rule

# The announcer sends for the feed; hub and doctor send themselves an echo; /readyz sends to an empty group; code that
# revokes access notifies the hubs.
SENDERS = {
    "runs.access.revocation",
    "runs.live.hub",
    "runs.metrics.probes",
    "runs.recording.announcer",
    "runs.recording.feed",
    "monitor_site.serving.doctor.services",
}


def test_every_file_imports_what_its_package_may():
    found = layout.problems()
    assert not found, "\n".join([layout.picture(), "", *found])


def test_the_architecture_page_shows_the_same_picture():
    assert layout.picture() in (ROOT / "docs" / "architecture.md").read_text(), layout.picture()


@pytest.mark.parametrize("package", layout.RULES)
def test_every_package_says_what_is_in_it(package: str):
    assert ast.get_docstring(ast.parse(layout.modules()[package].read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import trainer.control.lease as x",
        "def f():\n    from trainer import control",
        "import importlib\nimportlib.import_module('trainer.control.lease')",
        "from trainer.control.lease import CannotTrain",
    ],
)
def test_it_sees_an_import_in_any_form(source: str, tmp_path: Path):
    file = tmp_path / "one.py"
    file.write_text(source)
    assert any(name.startswith("trainer.control") for name in layout.imports(file))


def test_it_names_the_file_and_the_rule(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(layout.RULES, "runs.access", Rule(("runs.models",), frozenset({"django"})))
    found = layout.breaches()
    assert "runs/access/roles.py imports runs.protocol.commands: runs.access may not import runs.protocol." in found


def test_it_follows_imports_through_other_files(monkeypatch: pytest.MonkeyPatch):
    rule = layout.RULES["trainer.scheduler"]
    monkeypatch.setitem(layout.RULES, "trainer.scheduler", Rule(rule.packages, rule.libraries, frozenset({"pynvml"})))
    assert any("trainer/scheduler/watch.py reaches pynvml, by " in each for each in layout.breaches())


def test_it_refuses_arrows_that_point_up_and_crowded_packages(monkeypatch: pytest.MonkeyPatch):
    reordered = {"runs.live": layout.RULES["runs.live"], **layout.RULES}
    monkeypatch.setattr(layout, "RULES", reordered)
    assert any(each.startswith("runs.live imports runs.access") for each in layout.circles())
    monkeypatch.setattr(layout, "MOST_FILES", 3)
    assert any(each.startswith("runs/live has ") for each in layout.crowded())


def test_the_trainer_app_imports_nothing_at_its_start():
    assert not layout.imports(ROOT / "trainer" / "__init__.py")
    assert layout.imports(ROOT / "trainer" / "apps.py") == {"django.apps"}


def sends(tree: ast.AST) -> bool:
    """Return whether code sends to a group or by the announcer, under any imported name."""
    modules, functions = set(), {"group_send"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                full = f"{getattr(node, 'module', '')}.{alias.name}"
                if full.endswith(".announcer"):
                    modules.add(alias.asname or alias.name.split(".")[0])
                elif full.endswith(".announcer.send"):
                    functions.add(alias.asname or alias.name)
    called = [ast.unparse(node.func).split(".") for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return any(
        parts[-1] == "group_send"
        or (len(parts) == 1 and parts[0] in functions)
        or (parts[-1] == "send" and (parts[0] in modules or "announcer" in parts))
        for parts in called
    )


@pytest.mark.parametrize(
    "source",
    [
        "from runs.recording import announcer as a\na.send(1)",
        "from runs.recording import announcer\nannouncer.current().send(1)",
        "from runs.recording.announcer import send as tell\ntell(1)",
        "import runs.recording.announcer\nruns.recording.announcer.send(1)",
        "async def f(layer):\n    await layer.group_send('run.1', {})",
    ],
)
def test_it_sees_what_sends_in_any_form(source: str):
    assert sends(ast.parse(source))


def test_only_the_feed_sends_to_viewers():
    senders = {module for module, path in layout.modules().items() if sends(ast.parse(path.read_text()))}
    assert senders <= SENDERS
    assert {"runs.recording.feed", "runs.recording.announcer"} <= senders
