"""The WebSocket server conforms to RFC 6455, and to RFC 7692 when it accepts an offer of compression.

`python -m tests.chaos.conformance` runs all cases, including those of large messages, of a thousand compressed ones and
of empty messages that are not echoed.
"""

from __future__ import annotations

from tests.support.stack import run_check


def test_it_passes_the_cases_of_autobahn() -> None:
    outcome = run_check("conformance", "--short")
    assert set(outcome["groups"]) == {"1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"}
    assert outcome["cases"] > 250 and outcome["wrong"] == []
    assert outcome["mended"] == [], "these pass now: take them out of KNOWN in tests/chaos/conformance.py"
