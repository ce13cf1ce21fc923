"""Run Autobahn's cases of RFC 6455 and RFC 7692, by kosoku, against the portal's server class.

usage: python -m tests.chaos.conformance [--short]

The application behind the server echoes (`tests.live.echo_server`). Groups: 1 framing, 2 pings and pongs, 3 reserved
bits, 4 opcodes, 5 fragments, 6 UTF-8, 7 closing, 9 large messages, 10 odd fragments, 12 and 13 compression. The portal
limits a viewer's message to 64 KiB; for the larger ones of group 9 this server has a higher limit. The short form keeps
the product's limit, and runs the cases that fit it, with only a part of groups 12 and 13.

kosoku adds modules to the path with the names of the real Autobahn, so this program imports nothing of the portal.
Prints progress to stderr and one JSON object as its last line: `wrong` lists the cases that failed unexpectedly,
`mended` those of `KNOWN` that passed, `declined` counts offers of compression that the server declined.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kosoku import FailureError, run_fuzzingclient

from tests.support.hosts.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
# The largest messages of group 9 have 16 MiB.
LIMIT_BYTES = 16 << 20
# Daphne does not pass on empty messages, so they are not echoed: text and binary, in one frame, in three, a thousand
# times.
KNOWN = ("1.1.1", "1.2.1", "6.1.1", "6.1.2", "9.7.1", "9.8.1")
# Compression is only an offer: a server that declines it, or some parameters, conforms.
OFFERS = ("12.", "13.")
# These send a thousand messages per case, and have the smallest ones of each kind of offer.
SHORT_OFFERS = ["12.1.1", "12.2.1", *(f"13.{offer}.1" for offer in range(1, 8))]
LARGER_THAN_THE_LIMIT = ["9.1.2", "9.1.3", "9.1.4", "9.1.5", "9.1.6", "9.2.2", "9.2.3", "9.2.4", "9.2.5", "9.2.6",
                         "9.3.*", "9.4.*", "9.5.*", "9.6.*"]  # fmt: skip
# Each waits a minute for the echo of an empty message.
LONG_KNOWN = ["9.7.1", "9.8.1"]
AT_ONCE = 2
TIMEOUT_S = 1800.0


def drive(port: int, include: list[str] | None, exclude: list[str]) -> list[Any]:
    """Run the cases in `include` without those in `exclude`; return kosoku's results."""

    async def run() -> list[Any]:
        try:
            return list(await run_fuzzingclient(f"127.0.0.1:{port}", include, exclude or None, concurrency=AT_ONCE))
        except FailureError as failure:
            return list(failure.results)

    return asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def judge(results: list[Any]) -> dict[str, Any]:
    wrong: list[str] = []
    declined = 0
    for result in results:
        verdict = f"{result.case_id}: {result.behavior.value}, closing {result.behavior_close.value}"
        if result.case_id.startswith(OFFERS) and result.behavior.value == "UNIMPLEMENTED":
            declined += 1
        elif not result.passed and result.case_id not in KNOWN:
            wrong.append(verdict)
            print(f"{verdict}. {result.description}\n{result.expectation}\n{result.result}", file=sys.stderr)
    return {
        "cases": len(results),
        "groups": dict(Counter(result.case_id.split(".")[0] for result in results)),
        "wrong": wrong,
        "known": [result.case_id for result in results if not result.passed and result.case_id in KNOWN],
        "mended": [result.case_id for result in results if result.passed and result.case_id in KNOWN],
        "declined": declined,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    port = free_port()
    command = [sys.executable, "-m", "tests.live.echo_server", str(port), *([] if short else [str(LIMIT_BYTES)])]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None and server.stdout.readline() == "ready\n", "the server does not listen"
        if short:
            # Two selections, because an excluded case stays excluded even if it is included as well.
            left_out = [*LARGER_THAN_THE_LIMIT, *LONG_KNOWN, "12.*", "13.*"]
            results = drive(port, None, left_out) + drive(port, SHORT_OFFERS, [])
        else:
            results = drive(port, None, [])
    finally:
        server.terminate()
        server.wait(60)
    outcome = judge(results)
    print(json.dumps(outcome))
    return int(bool(outcome["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
