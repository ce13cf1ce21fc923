"""Exit with 0 while the portal of this container answers, with 1 otherwise.

Any answer but an error of its own counts: the host name and https are the proxy's to ask for.
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
        portal.request("GET", "/login/")
        status = portal.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"the portal does not answer: {error}", file=sys.stderr)
        return 1
    print(f"the portal answers with status {status}")
    return int(status >= 500)


if __name__ == "__main__":
    sys.exit(main())
