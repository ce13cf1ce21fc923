"""What a portal that is told to end says to its open sockets."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.stack import Stack, create_run, seed_stack


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
            assert "hello" in str(socket.recv(timeout=30))
            stack.web.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    socket.recv(timeout=30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        assert stack.web.wait(30) == 0
