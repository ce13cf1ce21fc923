"""The doctor's report: each check with its problem and remedy.

Every check ends within its timeout, even if a service hangs, and none shows a secret. Does not import torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steersman.values import first_line

Level = Literal["ok", "warning", "problem"]
DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `remedy` says what to do, "" if nothing needs to be done."""

    name: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check; `run` may hang and may raise. It may return several findings."""

    name: str
    run: Callable[[], Finding | list[Finding]]
    deadline_s: float = DEADLINE_S


def examine(checks: Sequence[Check], hide: Callable[[str], str] = str) -> list[Finding]:
    """Return the findings of the checks in order. They run in parallel; `hide` removes secrets from texts."""
    results: list[list[Finding] | None] = [None] * len(checks)

    def run(position: int, check: Check) -> None:
        try:
            found = check.run()
            results[position] = found if isinstance(found, list) else [found]
        except Exception as error:
            # If a check raises an exception, the other checks still run.
            results[position] = [Finding(check.name, "problem", f"{type(error).__name__}: {first_line(error)}")]

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(checks)]
    for thread in threads:
        thread.start()
    findings: list[Finding] = []
    for position, check in enumerate(checks):
        threads[position].join(check.deadline_s)
        # Read once, because a late thread may still write.
        found = results[position]
        findings += found if found is not None else [_hangs(check)]
    return [Finding(each.name, each.level, hide(each.text), hide(each.remedy)) for each in findings]


def _hangs(check: Check) -> Finding:
    text = f"no answer within {check.deadline_s:g} s"
    return Finding(check.name, "problem", text, "Check the network, the disks and the drivers that this check uses.")


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON-ready values, with their counts."""
    problems = sum(each.level == "problem" for each in findings)
    warnings = sum(each.level == "warning" for each in findings)
    return {
        "ok": not problems,
        "problems": problems,
        "warnings": warnings,
        "checks": [asdict(each) for each in findings],
    }
