"""The portal sends a large response no faster than the client reads it, however large it is."""

from __future__ import annotations

import http.client
import http.cookiejar
import os
import urllib.parse
import urllib.request
from pathlib import Path

from tests.support.stack import Stack, create_run, rows, wait_for

SIZE = 64 << 20


def log_in(address: str, name: str) -> str:
    """Return the Cookie header of a session."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{address}/login/").close()
    token = next(cookie.value for cookie in jar if cookie.name == "steersman_csrf")
    fields = {"username": name, "password": name, "csrfmiddlewaretoken": token}
    asked = urllib.request.Request(f"{address}/login/", urllib.parse.urlencode(fields).encode(), {"Referer": address})
    browser.open(asked).close()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def place_in(pid: int, path: Path) -> int | None:
    """Return how far the process `pid` has read the file `path`, or None if the file is not open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor) == str(path):
                about = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
                return int(about.split("pos:")[1].split()[0])
        except FileNotFoundError:
            continue
    return None


def test_a_slow_client_costs_no_memory_of_the_portal(stack: Stack) -> None:
    run_id = create_run(stack, "large")
    file = stack.data / "runs" / str(run_id) / "attempts" / "1" / "large" / "weights.pt"
    file.parent.mkdir(parents=True)
    with file.open("wb") as sparse:
        sparse.truncate(SIZE)
    checkpoint = rows(
        stack,
        "INSERT INTO runs_checkpoint (run_id, attempt, step, epoch, name, path, size_bytes, sha256, reason, metrics,"
        " created_at, has_manifest, keep, good, abandoned, on_host)"
        " VALUES (?, 1, 1, 1, 'large', 'attempts/1/large', ?, '', 'last', '{}', '2026-01-01', TRUE, FALSE, FALSE,"
        " FALSE, TRUE)"
        " RETURNING id",
        run_id,
        SIZE,
    )[0]["id"]
    assert stack.web is not None
    pid = stack.web.pid
    cookie = log_in(stack.address, "operator")
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    connection.request("GET", f"/runs/{run_id}/checkpoints/{checkpoint}/", headers={"Cookie": cookie})
    answer = connection.getresponse()
    assert answer.status == 200
    wait_for(lambda: place_in(pid, file), "the portal to read the file")
    for _ in range(20):
        # During each of these requests the portal's loop takes a turn, in which it would continue to read.
        urllib.request.urlopen(f"{stack.address}/login/").close()
    place = place_in(pid, file)
    assert place is not None and place < SIZE / 2, "nobody has taken a byte of it"
    received = 0
    while part := answer.read(1 << 20):
        received += len(part)
    assert received == int(answer.headers["Content-Length"]) > SIZE
    wait_for(lambda: place_in(pid, file) is None, "the file to be closed")
