"""The portal without PyTorch serves its pages, and features that need PyTorch give a message with the remedy."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository.test_docker import sign_in
from tests.support.stack import ROOT, Stack, rows, run_row, seed_stack, wait_for

# No import of any process may find the packages that the slim image omits from requirements.txt.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ("torch", "mlxtend") else PathFinder.find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
REMEDY = "PyTorch is not installed here"
PAGES = ("", "projects/", "runs/new/", "runs/1/", "sessions/", "api/docs/", "api/queue/", "api/runs/1/")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An installation with one run of a recipe, without PyTorch from then on."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    with Stack() as stack:
        seed_stack(stack)
        stack.manage("recipes", "--publish")
        stack.manage("create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--user", "operator")
        stack.environment |= {"PYTHONPATH": str(tmp_path), "STEERSMAN_SLOTS": "0", "STEERSMAN_CPU_SLOTS": "0"}
        yield stack


def test_commands_that_need_pytorch_say_so_and_change_nothing(stack: Stack) -> None:
    for command in (["recipes"], ["recipes", "--publish"], ["train", "--run-id", "1"], ["demo"]):
        # A new process, because the one of the stack started while PyTorch was still there.
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *command], env=stack.environment, capture_output=True, text=True
        )
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert done.stderr.count(REMEDY) == 1 and "pip install -r requirements.txt" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert run_row(stack, 1)["state"] == "created"
    assert rows(stack, "SELECT id FROM runs_attempt") == []


def test_serve_shows_every_page_and_leaves_queued_runs_to_others(stack: Stack) -> None:
    stack.manage("create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--queue")
    log = stack.folder / "serve.log"
    (stack.data / "recipes_published").unlink(missing_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, str(ROOT / "manage.py"), "serve"]
        process = subprocess.Popen(command, env=stack.environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: "Ctrl-C ends the portal" in log.read_text() or process.poll() is not None, "the portal")
        assert REMEDY in log.read_text() and process.poll() is None, log.read_text()
        browser = sign_in(stack, "operator", "operator")
        assert browser is not None
        for page in PAGES:
            with browser.open(f"{stack.address}/{page}", timeout=60) as answer:
                assert answer.status == 200, page
        # The scheduler checks the queue, and the runs that need PyTorch stay in it.
        wait_for(lambda: rows(stack, "SELECT id FROM runs_host") or None, "the watch")
        assert run_row(stack, 2)["state"] == "queued"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
