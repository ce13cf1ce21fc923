"""Exit with 0 while the portal of this container answers, with 1 otherwise.

`health.py /readyz` also checks database, migrations and channel layer, and exits with 0 while the portal can serve.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 5


def main() -> int:
    """Return the exit status."""
    portal = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("STEERSMAN_PORT", "8765")), timeout=TIMEOUT_S)
    try:
        portal.request("GET", sys.argv[1] if len(sys.argv) > 1 else "/healthz")
        status = portal.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"the portal does not answer: {error}", file=sys.stderr)
        return 1
    print(f"the portal answers with status {status}")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main())
