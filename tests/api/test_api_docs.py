"""`docs/api.md`: every example runs as it is written, and every operation is listed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from django.test import Client

from tests.support.stack import ROOT, Stack, rows

TEXT = (ROOT / "docs" / "api.md").read_text()
EXAMPLES = re.findall(r"^```(sh|python)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def environment(stack: Stack) -> dict[str, str]:
    """Set what the page tells a reader to set: portal, token and run."""
    words = ("create_run", "--quiet", "--project", "lab", "--user", "operator", "--recipe", "digits", "--device", "cpu")
    run = int(stack.manage(*words, "--set", "epochs=1").stdout)
    # Its checkpoints are real, because an example branches from one.
    assert stack.train(run, "--quiet").wait(120) == 0, stack.log()
    rows(stack, "UPDATE runs_run SET state = 'running', is_paused = FALSE WHERE id = ? RETURNING id", run)
    command, train = (
        stack.manage("create_token", "--project", "lab", "--user", "operator", "--scope", scope).stdout.strip()
        for scope in ("command", "train")
    )
    return {
        **stack.environment,
        "PORTAL": stack.address,
        "TOKEN": command,
        "TRAIN_TOKEN": train,
        "RUN": str(run),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


@pytest.mark.parametrize(
    ("language", "code"), EXAMPLES, ids=[f"{place}-{kind}" for place, (kind, _) in enumerate(EXAMPLES)]
)
def test_it_runs_as_it_stands(environment: dict[str, str], language: str, code: str) -> None:
    program = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_page_has_examples_of_both_kinds() -> None:
    assert {language for language, _ in EXAMPLES} == {"sh", "python"} and len(EXAMPLES) >= 8


@pytest.mark.django_db
def test_it_names_every_operation_and_no_other() -> None:
    described = json.loads(Client().get("/api/openapi.json").content)["paths"]
    real = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /api/[^`]*)`", TEXT, re.MULTILINE)) == real
