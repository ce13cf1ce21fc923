"""A Redis that was killed takes two lines of the log: that it is unavailable, and that it is available again."""

from __future__ import annotations

import asyncio
import threading

from tests.chaos.redis_gone import server_process
from tests.support.stack import Stack, create_run, seed_stack, wait_for
from tests.support.watcher import Watcher, ticket_of


def test_connections_that_redis_has_lost_are_logged_without_tracebacks() -> None:
    """The channel layer logs each of them with its traceback, every second while Redis is away."""
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        run_id = create_run(stack)
        made = stack.manage("create_token", "--project", "lab", "--scope", "view", "--user", "operator")
        watcher = Watcher(stack.address, run_id, lambda: ticket_of(stack, run_id, made.stdout.strip()))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(watcher.follow(),), daemon=True)
        thread.start()
        log = stack.folder / "web.log"
        try:
            wait_for(lambda: watcher.links[-1:] == ["live"], lambda: f"a viewer that is greeted\n{stack.log()}")
            server_process(stack).kill()
            wait_for(lambda: watcher.links[-1] == "database", lambda: f"the outage\n{stack.log()}")
            stack.redis.stop()
            stack.start_redis()
            # An echo arrives through the subscription, which has failed before.
            wait_for(lambda: watcher.links[-1] == "live", lambda: f"the end of the outage\n{stack.log()}")
        finally:
            asyncio.run_coroutine_threadsafe(watcher.stop(), loop)
            thread.join(60)
        told = log.read_text()
        assert "the channel layer is unavailable" in told and "the channel layer is available again" in told
        assert "Traceback" not in told and "channels_redis" not in told
