"""A portal that is asked to end sends a close frame to its open sockets, and ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.stack import ROOT, Stack, create_run, seed_stack


def test_it_tells_its_sockets_that_the_server_restarts() -> None:
    with Stack() as stack:
        seed_stack(stack)
        run = create_run(stack)
        token = stack.manage("create_token", "--project", "lab", "--user", "operator", "--scope", "view").stdout.strip()
        stack.start_redis()
        stack.start_web()
        assert stack.web is not None
        address = f"{stack.address.replace('http', 'ws')}/ws/runs/{run}/"
        with connect(address, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
            assert "hello" in str(socket.recv(timeout=60))
            stack.web.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    socket.recv(timeout=60)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        assert stack.web.wait(60) == 0


# A request that arrives at the end starts, and its thread waits for an event loop that no longer runs.
LEAVES_A_THREAD = """
import threading
from concurrent.futures import ThreadPoolExecutor
import django
django.setup()
from django.core.management import call_command
from monitor_site.serving import daphne_server
begun = threading.Event()
def serve(*arguments, **options):
    ThreadPoolExecutor().submit(lambda: (begun.set(), threading.Event().wait()))
    begun.wait()
daphne_server.serve = serve
call_command("serve_portal")
"""


def test_it_ends_though_a_thread_waits_for_its_loop() -> None:
    with Stack() as stack:
        seed_stack(stack)
        environment = stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"}
        ended = subprocess.run([sys.executable, "-c", LEAVES_A_THREAD], cwd=ROOT, env=environment, timeout=60)
        assert ended.returncode == 0
