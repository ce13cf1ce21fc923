"""The arrows between the rooms: who may import whom, read from the sources."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT

STANDARD = set(sys.stdlib_module_names)
WITHOUT_DJANGO = [
    "runs/events.py", "runs/commands.py", "runs/parameters.py", "trainer/gpu.py", "trainer/nvml.py", "trainer/loop.py",
    "trainer/gpu_fields.py", "trainer/out_of_memory.py", "trainer/throttling.py", "trainer/doctor.py",
    "trainer/checks/machine.py", "trainer/wire.py", "trainer/relay.py", "trainer/outpost.py", "trainer/team.py",
    "trainer/launching.py", "trainer/given.py", "runs/slots.py",
    "trainer/recipe.py", "trainer/worker.py", "trainer/folders.py", "trainer/start.py", "trainer/tail.py",
    "trainer/console.py", "trainer/points.py", "trainer/redactor.py", "monitor_site/embedded.py",
    "monitor_site/redis_socket.py",
]  # fmt: skip


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere, without those under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", sources("runs"), ids=str)
def test_runs_knows_neither_torch_nor_trainer(path):
    assert not tops(path) & {"torch", "trainer"}


@pytest.mark.parametrize("path", sources("steersman"), ids=str)
def test_the_client_needs_the_standard_library_alone(path):
    assert tops(path) <= STANDARD | {"steersman", "__future__"}


@pytest.mark.parametrize("name", WITHOUT_DJANGO)
def test_these_files_know_no_django(name):
    assert "django" not in tops(ROOT / name)


def test_starting_the_trainer_app_imports_nothing():
    assert not imports(ROOT / "trainer" / "__init__.py")
    assert tops(ROOT / "trainer" / "apps.py") == {"django"}


def test_only_the_feed_tells_viewers():
    senders = {
        str(path.relative_to(ROOT))
        for room in ("runs", "trainer", "monitor_site")
        for path in sources(room)
        if "group_send(" in path.read_text() or "announcer.send(" in path.read_text()
    }
    # The announcer carries for the feed; hub and doctor send themselves an echo; what revokes access tells the hubs.
    assert senders <= {
        "runs/feed.py", "runs/announcer.py", "runs/live/hub.py", "runs/revocation.py", "trainer/checks/services.py"
    }  # fmt: skip
