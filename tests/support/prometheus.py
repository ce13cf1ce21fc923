"""The real Prometheus with the configuration of this project, changed to what differs on this machine."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def replaced(text: str, changes: Iterable[tuple[str, str]]) -> str:
    """Return `text` with what differs on this machine; each thing told must be there."""
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
    """Return what Prometheus answers, nothing while it does not."""
    address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return list(json.load(answer)["data"]["result"])
    except OSError:
        return []
