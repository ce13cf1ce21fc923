"""The real Prometheus with this project's configuration, adapted to this machine."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def replaced(text: str, changes: Iterable[tuple[str, str]]) -> str:
    """Return `text` after the `changes`; raise an error if the text of one is missing."""
    for told, here in changes:
        assert told in text, told
        text = text.replace(told, here)
    return text


def prometheus_command(program: str, folder: Path, port: int) -> list[str]:
    """Return the command of a Prometheus that reads `prometheus.yml` in `folder`, and keeps its data there."""
    return [
        program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """Return the result of a query, or nothing while Prometheus does not answer."""
    address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return list(json.load(answer)["data"]["result"])
    except OSError:
        return []
