"""The portal's server class with an application that echoes its input, for the cases of conformance.

usage: python -m tests.live.echo_server PORT [LIMIT]

LIMIT, in bytes, replaces the product's limit for a message of a viewer. Features that conformance does not concern are
off: the limit on the rate of messages, the server's pings (the cases count the frames that they receive), and the rule
that leaves short messages uncompressed, which kosoku does not expect. Prints "ready" once it listens.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from monitor_site.serving import daphne_server


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            # Some cases close right after sending; ASGI then raises an `OSError`.
            with contextlib.suppress(OSError):
                await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})
        else:
            return


def main() -> int:
    port, *limit = (int(argument) for argument in sys.argv[1:])
    changed = {"MESSAGES_BURST": 10**9, "PING_INTERVAL_S": 10**9, "SMALLEST_COMPRESSED_BYTES": 0}
    if limit:
        changed["INCOMING_LIMIT_BYTES"] = limit[0]
    # If a constant were renamed, the product's value would stay in force.
    assert changed.keys() <= vars(daphne_server).keys()
    vars(daphne_server).update(changed)
    failure = daphne_server.serve(echo, "127.0.0.1", port, ready=lambda: print("ready", flush=True))
    print(failure or "ended", file=sys.stderr)
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main())
