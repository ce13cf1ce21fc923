"""Portal, record, embedded server and watch as children of one process: started in order, restarted, ended.

`monitor_site.serving.serve` adds nothing to it; the demo adds accounts and a training.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError

from monitor_site.addresses import is_loopback, lan_addresses, portal_address
from monitor_site.serving.child_processes import Child, reap_orphans
from monitor_site.serving.embedded_server import EmbeddedServer, EmbeddedServerError
from monitor_site.serving.ports import cannot_listen, listen_error
from monitor_site.serving.publishing import CommandFailed, manage
from monitor_site.serving.status_line import StatusLine
from steersman.exit_codes import EXIT_HELD, EXIT_INTERRUPTED
from steersman.files import data_folder
from steersman.files.private import make_private_file
from trainer.portal_address import SERVE_LOCK, served_line

PORTAL_TIMEOUT_S = 30.0
POLL_S = 0.1
POLL_INTERVAL_S = 1.0
# Short, because pages wait for a portal that was killed.
CHILD_INTERVAL_S = 0.1
CHILD_END_S = 10.0


class CannotRun(Exception):
    """The service cannot run here. The text says what to do."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. Not an `Exception`, so that no handler treats it as a failure."""


class Service:
    """Runs in the main thread until it is asked to end; `run` returns the exit status."""

    # The command that starts it.
    command = "make serve"

    def __init__(self, status: StatusLine) -> None:
        self.data: Path = settings.STEERSMAN_DATA
        self.bind: str = settings.STEERSMAN_BIND
        self.port: int = settings.STEERSMAN_PORT
        self.local_address = f"http://{self._local_host()}:{self.port}{settings.STEERSMAN_PREFIX}/"
        self.address = portal_address() if settings.STEERSMAN_ORIGINS else self.local_address
        self.status = status
        self.embedded = EmbeddedServer(self.data)
        # If Redis runs elsewhere, it is not started here.
        self._embeds = self.embedded.url == settings.STEERSMAN_REDIS_URL
        self.portal = self.child("portal", "serve_portal", "--bind", self.bind, "--port", str(self.port))
        # Stores what training hosts without access to the database report.
        self.record = self.child("record", "record")
        self.watch = self.child("watch", "watch")
        # In the order in which they end.
        self.children = (self.watch, self.record, self.portal)
        self._ending = False
        # Those for which somebody runs another one beside us.
        self._told_other: set[str] = set()

    def run(self) -> int:
        """Start everything, monitor it, end it. Raises `CannotRun` if it cannot start."""
        self.check()
        lock = self._take_lock()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            self.start()
            while True:
                self.tick()
                self.pause()
        except Interrupted:
            return 0
        except CommandFailed as error:
            raise CannotRun(str(error)) from error
        except DatabaseError as error:
            raise CannotRun(
                f"The database cannot be used ({error}): run manage.py doctor to find the cause."
            ) from error
        finally:
            self._ending = True
            self.end()
            lock.close()

    def check(self) -> None:
        """Refuse what would be dangerous, or cannot work, before anything is started."""
        refuse_unfit_data()
        refuse_debug(self.bind)
        error = listen_error(self.bind, self.port)
        if error is not None:
            another = f"with `STEERSMAN_PORT={max(self.port, 8000) + 1} {self.command}`"
            raise CannotRun(cannot_listen(error, self.bind, self.port, another))

    # Starting

    def start(self) -> None:
        """Start server, database, recipes, record, portal and watch, in this order, and print the addresses."""
        self.start_embedded()
        call_command("migrate", verbosity=0, interactive=False)
        self.prepare()
        self.record.start()
        self.portal.start()
        self.wait_for(self._portal_answers, PORTAL_TIMEOUT_S, self.portal)
        self.watch.start()
        self.status.say(f"portal {self.address}")
        for host in lan_addresses(self.bind):
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{self.port}{settings.STEERSMAN_PREFIX}/"
            if address != self.address:
                self.status.say(f"from other machines {address}")

    def prepare(self) -> None:
        """Do the work that must be done before the portal opens."""

    def start_embedded(self) -> None:
        if not self._embeds:
            return
        try:
            started = self.embedded.start()
        except EmbeddedServerError as error:
            raise CannotRun(str(error)) from error
        if not started:
            self.status.say("Using the embedded server that already runs for this data folder.")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, child: Child) -> None:
        """Wait until `condition`, which `child` should make true. Raises `CannotRun` if it does not."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if child.exit_code is not None:
                raise CannotRun(f"The {child.name} {child.ended()}: {child.last_line()} (whole log: {child.log})")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"The {child.name} did not start within {timeout_s:.0f} s; its last output was: "
                    f"{child.last_line()} (whole log: {child.log}). "
                    "If the log names a missing package, run `make setup`."
                )
            time.sleep(POLL_S)

    def child(self, name: str, *arguments: str) -> Child:
        environment = os.environ | {"STEERSMAN_DATA": str(self.data), "PYTHONUNBUFFERED": "1"}
        return Child(name, manage(*arguments), self.data / "logs" / f"{name}.log", Path.cwd(), environment)

    def _local_host(self) -> str:
        """Return the address at which this machine itself reaches the portal."""
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "localhost") else "::1" if self.bind == "::" else self.bind
        return f"[{host}]" if ":" in host else host

    def _portal_answers(self) -> bool:
        connection = http.client.HTTPConnection(self._local_host().strip("[]"), self.port, timeout=5)
        try:
            # Any answer, such as a redirect to https or to the login, shows that it is running.
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _take_lock(self) -> IO[str]:
        """Lock the data folder: two services on one folder would end each other's children."""
        path = self.data / SERVE_LOCK
        make_private_file(path)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotRun(
                f"Steersman already runs on {self.data} ({lock.read().strip() or 'starting'}): use that one, or choose "
                "another folder and port with STEERSMAN_DATA and STEERSMAN_PORT."
            ) from None
        lock.truncate(0)
        lock.write(served_line(self.command, self.address) + "\n")
        lock.flush()
        return lock

    # Watching

    def tick(self) -> None:
        """Look at everything once: bring back what ended by itself."""
        self.reap_orphans()
        if self._embeds and not self.embedded.is_alive:
            self.status.say("The embedded server has ended: starting it again.")
            self.start_embedded()
        self._keep_children()

    def reap_orphans(self) -> None:
        reap_orphans([self.embedded.pid, *(child.pid for child in self.children)])

    def pause(self) -> None:
        """Wait for the next check, and restart a child that ends meanwhile."""
        until = time.monotonic() + POLL_INTERVAL_S
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, CHILD_INTERVAL_S))
            self._keep_children()

    def _keep_children(self) -> None:
        self.tell(self.portal.keep_alive())
        self._keep_only_one(self.record)
        self.keep_watch()

    def keep_watch(self) -> None:
        """Restart the watch if it ended by itself."""
        self._keep_only_one(self.watch)

    def _keep_only_one(self, child: Child) -> None:
        """Restart a child of which only one may run, if it ended by itself."""
        other = child.exit_code == EXIT_HELD
        sentence = child.keep_alive()
        if other and sentence:
            # Somebody runs one beside us: fine, and ours takes over once that one ends.
            sentence = None if child.name in self._told_other else child.last_line().removeprefix("CommandError: ")
            self._told_other.add(child.name)
        self.tell(sentence)

    def tell(self, sentence: str | None) -> None:
        if sentence:
            self.status.say(sentence)

    # Ending

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            self.end_at_once()
            self.status.end()
            os._exit(EXIT_INTERRUPTED)
        self._ending = True
        raise Interrupted

    def end_at_once(self) -> None:
        """A second signal: end our own children without waiting for them."""
        for child in self.children:
            child.kill()
        self.embedded.stop()

    def end(self) -> None:
        """End watch, record, portal and server; trainings continue."""
        self.status.end()
        for child in self.children:
            child.terminate()
        for child in self.children:
            if not child.wait(CHILD_END_S):
                child.kill()
        self.embedded.stop()


def refuse_unfit_data() -> None:
    """Raise `CannotRun` if others have access to the data folder, or it cannot be used."""
    try:
        data_folder.refuse_unfit(settings.STEERSMAN_DATA, shared=settings.STEERSMAN_SHARED_DATA)
    except data_folder.UnfitFolder as error:
        raise CannotRun(str(error)) from error


def refuse_debug(bind: str) -> None:
    """Raise `CannotRun` if pages with debugging details would be visible to other machines."""
    if settings.DEBUG and not is_loopback(bind):
        raise CannotRun(
            "STEERSMAN_DEBUG is on: its error pages show settings and source code, so the portal does not listen on "
            f"{bind}. Unset STEERSMAN_DEBUG, or set STEERSMAN_BIND to 127.0.0.1."
        )
