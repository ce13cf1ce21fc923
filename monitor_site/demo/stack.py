"""The demo from start to end: who is started in which order, watched, started again, and ended."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, OperationalError

from monitor_site.demo import training
from monitor_site.demo.accounts import prepare_accounts
from monitor_site.demo.children import Child, adopt_orphans, kill_descendants, reap_orphans
from monitor_site.demo.status_line import StatusLine
from monitor_site.embedded import EmbeddedServer, EmbeddedServerError
from monitor_site.ports import port_is_free
from runs.models import Run

HOST = "127.0.0.1"
PORTAL_TIMEOUT_S = 30.0
FIRST_POINT_TIMEOUT_S = 120.0
POLL_S = 0.1
STATUS_INTERVAL_S = 1.0
# The training finishes its step and writes a checkpoint: far more than it needs, far less than a person waits.
TRAINING_END_S = 60.0
PORTAL_END_S = 10.0
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class CannotRun(Exception):
    """The demo cannot run here; the text is a sentence that says what to do."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. Not an `Exception`, so that nothing on the way takes it for a failure."""


class Demo:
    """Runs in the main thread until it is told to end; `run` returns the exit status."""

    def __init__(self, status: StatusLine, parameters: dict[str, str]) -> None:
        self.data: Path = settings.COXSWAIN_DATA
        self.port: int = settings.COXSWAIN_PORT
        self.address = f"http://{HOST}:{self.port}/"
        self.status = status
        self.parameters = parameters
        self.embedded = EmbeddedServer(self.data)
        self.portal = self._child("portal", "serve_portal", "--bind", HOST, "--port", str(self.port))
        self.training: Child | None = None
        self.run_id = 0
        self._ending = False
        self._training_told = False

    def run(self) -> int:
        """Start everything, watch over it, end it. Raises `CannotRun` where it cannot start."""
        lock = self._take_lock()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        adopt_orphans()
        try:
            self._start()
            while True:
                self._watch()
                time.sleep(STATUS_INTERVAL_S)
        except Interrupted:
            return 0
        except training.CommandFailed as error:
            raise CannotRun(str(error)) from error
        except DatabaseError as error:
            raise CannotRun(f"The database in {self.data} cannot be used: {error}.") from error
        finally:
            self._ending = True
            self._end()
            lock.close()

    # Starting

    def _start(self) -> None:
        if not port_is_free(HOST, self.port):
            raise CannotRun(
                f"Port {self.port} is in use: end what listens there, or choose another with "
                f"`COXSWAIN_PORT={self.port + 1} make demo`."
            )
        self._start_embedded()
        call_command("migrate", verbosity=0, interactive=False)
        training.publish_recipes(settings.BASE_DIR, self.data)
        logins = prepare_accounts(self.data)
        self.portal.start()
        self._wait_for(self._portal_answers, self.portal, PORTAL_TIMEOUT_S)
        self.status.say(f"portal {self.address}")
        for login in logins:
            self.status.say(str(login))
        self._start_training()

    def _start_embedded(self) -> None:
        try:
            started = self.embedded.start()
        except EmbeddedServerError as error:
            raise CannotRun(str(error)) from error
        if not started:
            self.status.say("Using the embedded server that already runs for this data folder.")

    def _start_training(self) -> None:
        self.run_id = training.create_run(self.parameters, "owner")
        self.training = self._child("training", "train", "--run-id", str(self.run_id), "--quiet")
        self.training.start()
        self._wait_for(lambda: training.has_points(self.run_id), self.training, FIRST_POINT_TIMEOUT_S)
        self.status.say(f"run {self.run_id} {self.address}runs/{self.run_id}/")
        self.status.say("Ctrl-C ends everything.")

    def _wait_for(self, condition: Callable[[], bool], child: Child, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if child.exit_code is not None:
                raise CannotRun(f"The {child.name} {child.ended()}: {child.last_line()} (whole log: {child.log})")
            if time.monotonic() > deadline:
                raise CannotRun(
                    f"The {child.name} is not there after {timeout_s:.0f} s; it said: {child.last_line()} (whole log: "
                    f"{child.log}). If something is missing, `make setup` brings it."
                )
            time.sleep(POLL_S)

    def _portal_answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address, timeout=5) as reply:
                return bool(reply.status < 500)
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False

    def _child(self, name: str, *arguments: str) -> Child:
        environment = os.environ | {"COXSWAIN_DATA": str(self.data), "PYTHONUNBUFFERED": "1"}
        log = self.data / "logs" / f"demo-{name}.log"
        return Child(name, training.manage(*arguments), log, settings.BASE_DIR, environment)

    def _take_lock(self) -> IO[str]:
        """Hold the data folder: two demos on one would print each other's logins and end each other's children."""
        lock = (self.data / "demo.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotRun(
                f"A demo already runs on {self.data} ({lock.read().strip() or 'starting'}): use that one, or choose "
                "another folder and port with COXSWAIN_DATA and COXSWAIN_PORT."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, {self.address}\n")
        lock.flush()
        return lock

    # Watching

    def _watch(self) -> None:
        """One look at everything: bring back what ended by itself, show the state of the training."""
        reap_orphans([self.embedded.pid, self.portal.pid, self.training.pid if self.training else None])
        if not self.embedded.is_alive:
            self.status.say("The embedded server is gone: starting it again.")
            self._start_embedded()
        self._tell(self.portal.keep_alive())
        if self.training is not None:
            self._watch_training(self.training)

    def _watch_training(self, child: Child) -> None:
        code = child.exit_code
        if code is None or code < 0:
            # Killed, which no one asked for on the page: the next supervisor takes the run over.
            self._tell(child.keep_alive())
        elif not self._training_told:
            self._training_told = True
            self._tell(
                training.describe_end(self.run_id)
                if code == 0
                else f"The training {child.ended()}: {child.last_line()}"
            )
        try:
            run = Run.objects.get(pk=self.run_id)
            self.status.show(training.describe(run), str(run.state))
        except (OperationalError, Run.DoesNotExist):
            # A status that is missed is shown a second later; a run that was deleted has none.
            return

    def _tell(self, sentence: str | None) -> None:
        if sentence:
            self.status.say(sentence)

    # Ending

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ending:
            kill_descendants()
            self.status.end()
            os._exit(EXIT_INTERRUPTED)
        self._ending = True
        raise Interrupted

    def _end(self) -> None:
        """End the training first, while the portal can still tell its viewers; then the portal and the server."""
        self.status.end()
        if self.training is not None and self.training.exit_code is None:
            self.status.say("Ending: the training saves a checkpoint (Ctrl-C again ends everything at once) …")
            self.training.terminate()
            if self.training.wait(TRAINING_END_S):
                self._tell(self._training_end())
            else:
                self.status.say(f"The training did not end within {TRAINING_END_S:.0f} s: ending it at once.")
        served = self.portal.pid is not None
        self.portal.terminate()
        self.portal.wait(PORTAL_END_S)
        self.embedded.stop()
        kill_descendants()
        if served:
            self.status.say("Everything has ended; the runs are kept.")

    def _training_end(self) -> str | None:
        try:
            return training.describe_end(self.run_id)
        except OperationalError as error:
            return f"How the training ended is not to be read: {error}"
