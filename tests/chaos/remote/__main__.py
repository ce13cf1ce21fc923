"""Train by `steersman run` on a host without Django, while its link, its portal and its processes fail.

usage: python -m tests.chaos.remote [--faults 60] [--longest 10] [--once 60] [--seed N] [--network] [--postgres]
                                    [--https]

The faults are: the link is down for up to LONGEST seconds, the first time for ONCE seconds; the database refuses
writes; `kill -9` ends the portal, `manage.py record`, the process on the host that records the training, or the
training itself, which is restarted and continues after its last recorded step. One in ten messages of the host arrives
twice. With `--network` (as root), the host is in a network namespace of its own, and a link that is down drops all
packets. Without this option, a link that is down breaks the connections. With `--postgres`, the database is a
PostgreSQL server of the program, which is also stopped with SIGSTOP, and restarted. With `--https`, the host reports by
long requests instead of a WebSocket. Commands are sent during the faults; some expire soon. The training appends a line
to a file for each command that it receives.
Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from contextlib import ExitStack
from typing import Any

from tests.chaos.remote.network import OURS, Network, NotPermitted
from tests.chaos.remote.remote_run import OF_DATABASE, OF_EACH, WRONG, RemoteRun
from tests.outage.frozen_postgres import PostgresError, Server
from tests.support import postgres
from tests.support.stack import Stack, seed_stack


def run_remote(chosen: argparse.Namespace, network: Network | None) -> dict[str, Any]:
    variables = {"STEERSMAN_RESTART_PAUSE_S": "0.2"}
    if network is not None:
        variables["STEERSMAN_HOSTS"] = f"127.0.0.1,localhost,{OURS}"
    with ExitStack() as entered:
        server = entered.enter_context(Server()) if chosen.postgres else None
        if server is not None:
            os.environ[postgres.VARIABLE] = server.address
        stack = entered.enter_context(Stack(**variables))
        seed_stack(stack)
        stack.use()
        stack.start_redis()
        remote = RemoteRun(
            stack, random.Random(chosen.seed), chosen.longest, chosen.once, network, server, over_requests=chosen.https
        )
        entered.callback(remote.close)
        return remote.run(chosen.faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--longest", type=float, default=10.0, help="how long the link is down at most, in seconds")
    parser.add_argument("--once", type=float, default=60.0, help="how long it is down the first time, 0: as later")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--network", action="store_true", help="put the host into a network namespace of its own")
    parser.add_argument("--postgres", action="store_true", help="use a PostgreSQL server, and restart it")
    parser.add_argument("--https", action="store_true", help="report by long requests instead of a WebSocket")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, faults {', '.join(OF_EACH + OF_DATABASE * chosen.postgres)}", file=sys.stderr)
    try:
        network = Network() if chosen.network else None
    except NotPermitted as error:
        print(json.dumps({"skipped": f"no network namespace can be made here: {error}"}))
        return 0
    try:
        result = run_remote(chosen, network)
    except PostgresError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if network is not None:
            network.close()
    print(json.dumps({"seed": chosen.seed, **result}))
    return int(any(result[name] for name in WRONG) or not result["stopped"])


if __name__ == "__main__":
    sys.exit(main())
