"""`manage.py watch`, one per host: starts queued runs, restarts supervisors, marks lost runs, cleans up.

The processes that it starts are detached and outlive it: a watch may be restarted at any time. It has no state of its
own: after a restart it reads everything from the database and from the locks in the data folder.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from runs.copies.removals import remove_noted
from runs.models import Attempt, Host, Run, RunState, StoredEvent
from runs.protocol.causes import Death
from runs.pruning.space import give_back
from runs.recording import announcer, queue
from runs.recording.feed import announce_host_heartbeat
from runs.recording.lifecycle import ENDED, LIVE, SILENT_AFTER_S, expire_commands, mark_lost
from runs.recording.liveness import received_heartbeats
from runs.series import storage
from steersman.agent.folders import any_worker_lives, attempt_folder, host_name, run_folder
from steersman.agent.launch.detached import Detached, start_train
from steersman.agent.launch.given_devices import given_environment
from steersman.agent.machine.devices import DeviceReader
from steersman.agent.machine.redactor import Redactor
from steersman.exit_codes import EXIT_HELD
from steersman.files.locks import HeldLock, try_lock
from steersman.files.private import make_private
from trainer.control.lease import is_of_this_host
from trainer.scheduler import host_slots
from trainer.scheduler.gpu_use import GpuUse
from trainer.scheduler.sender_process import SenderProcess
from trainer.scheduler.silent_runs import Pulse, SilenceWatch

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.5
# Between two reads of the database, whether this host's supervisors are alive is checked through their locks.
SUPERVISOR_INTERVAL_S = 0.1
HOST_INTERVAL_S = 2.0
LEFTOVER_FOLD_INTERVAL_S = 60.0
# A SQLite file with many deleted rows is shrunk by some megabytes each time.
SPACE_INTERVAL_S, SPACE_WITHIN_S = 10.0, 0.2
EXPIRY_INTERVAL_S = 5.0
SENDER_INTERVAL_S = 1.0
COPIES_INTERVAL_S = 30.0
# A heartbeat is noticed up to one pass late, its absence another pass late, and writing takes time: viewers see a run
# as lost when its last heartbeat is SILENT_AFTER_S old.
MARK_LOST_AFTER_S = SILENT_AFTER_S - 3 * WATCH_INTERVAL_S
# A write that waits longer than this waits for the same lock as the owner whose heartbeat is missing, so the next check
# decides.
LONGEST_WRITE_S = 1.0
# A supervisor that was killed is often restarted at once by its service manager or launcher. That new supervisor starts
# before ours, and holds the run first.
UNATTENDED_S = 0.4
# A run that is held elsewhere, or whose training cannot be adopted, is retried after this, then at growing intervals.
FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0
# If a supervisor ran for this long, it did not fail at its start: the next end counts as the first.
SUPERVISOR_HEALTHY_S = 60.0
# Viewers that reconnect right after the end still get the events that they missed.
FOLD_AFTER = timedelta(minutes=5)
FOLDED_RUNS_AT_ONCE = 20
FLUSH_TIMEOUT_S = 2.0


class AlreadyWatched(Exception):
    """Another watch runs for this host and data folder; the text names it."""


class Watch:
    """Works every half second until a signal ends it."""

    def __init__(self) -> None:
        self.host = host_name()
        self._data: Path = settings.STEERSMAN_DATA
        self._manage = Path(settings.BASE_DIR) / "manage.py"
        # A plain flag: a signal handler calls `stop`, and must not take a lock that this thread may hold.
        self._ending = False
        self._started: dict[int, Detached] = {}
        self._unattended_since: dict[tuple[int, int], float] = {}
        self._attended: set[int] = set()
        self._retry: dict[int, tuple[float, float]] = {}
        self._heartbeats = SilenceWatch()
        self._devices = DeviceReader()
        self._gpu_use = GpuUse(self._devices, self._data)
        self._sender = SenderProcess(self._manage)
        self._redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
        self._due: dict[str, float] = {}
        self._removing: threading.Thread | None = None
        self._database_away = False

    def run(self) -> None:
        """Do passes until `stop`. Raises `AlreadyWatched`."""
        lock = self._take_lock()
        self._devices.start()
        received_heartbeats.listen()
        try:
            while not self._ending:
                self.tick()
                self.pause()
        finally:
            self._devices.stop()
            self._sender.stop()
            announcer.current().flush(FLUSH_TIMEOUT_S)
            lock.release()

    def stop(self) -> None:
        self._ending = True

    def pause(self) -> None:
        """Wait for the next pass, for less time if a supervisor has ended, or is already missing."""
        until = time.monotonic() + (UNATTENDED_S if self._unattended_since else WATCH_INTERVAL_S)
        while not self._ending and not self._has_lost_one() and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, SUPERVISOR_INTERVAL_S))

    def _has_lost_one(self) -> bool:
        return any(started.exit_code is not None for started in self._started.values()) or not all(
            map(self._is_held, self._attended)
        )

    def tick(self) -> None:
        """Do one pass. If the database is unavailable, work is delayed and no run is lost."""
        now = time.monotonic()
        try:
            self._reap(now)
            self._start_queued(now)
            self._bring_back_supervisors(now)
            self._mark_lost(now)
            if self._is_due("host", now, HOST_INTERVAL_S):
                self._publish_host()
            if self._is_due("sender", now, SENDER_INTERVAL_S):
                self._sender.tick(now)
            if self._is_due("expiry", now, EXPIRY_INTERVAL_S):
                # For runs without a supervisor; the supervisors of the others are faster.
                expire_commands()
            if self._is_due("fold", now, LEFTOVER_FOLD_INTERVAL_S):
                self._fold_leftovers()
            if self._is_due("space", now, SPACE_INTERVAL_S):
                give_back(SPACE_WITHIN_S)
            if self._is_due("copies", now, COPIES_INTERVAL_S):
                self._remove_copies()
            if self._database_away:
                logger.warning("the database is back")
            self._database_away = False
        except (DatabaseError, InterfaceError) as error:
            if not self._database_away:
                logger.warning("the database is unavailable (%s): trainings continue without it", error)
            self._database_away = True
            announce_host_heartbeat(self.host)
            # Nothing can be done for a supervisor that ends now: the next successful pass will notice it.
            self._attended = set()
            self._heartbeats.interrupt()
            close_old_connections()

    def _take_lock(self) -> HeldLock:
        # Named after the host, because several hosts may share the data folder.
        path = make_private(self._data) / f"watch.{self.host}.lock"
        lock = try_lock(path)
        if lock is None:
            raise AlreadyWatched(
                f"A watch already runs for {self.host} and this data folder "
                f"({path.read_text().strip() or 'starting'}). Stop that watch before you start another."
            )
        lock.note(f"process {os.getpid()}, since {timezone.localtime():%Y-%m-%d %H:%M:%S}\n")
        return lock

    def _is_due(self, what: str, now: float, interval_s: float) -> bool:
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + interval_s
        return True

    def _remove_copies(self) -> None:
        """Remove pushed checkpoints whose removal failed, in a thread: an unavailable storage takes seconds to fail."""
        if self._removing is None or not self._removing.is_alive():
            self._removing = threading.Thread(target=remove_noted, name="removals", daemon=True)
            self._removing.start()

    # Queued runs

    def _start_queued(self, now: float) -> None:
        gpus = self._devices.gpus()
        put_off = {run_id for run_id in self._retry if self._must_wait(run_id, now)}
        found = host_slots.next_to_start(
            self.host, gpus, started=self._started, put_off=put_off, is_held=self._is_held, memory=self._gpu_use
        )
        for run, devices in ((beginning.run, beginning.devices) for beginning in found):
            if queue.claim(run.pk, self.host, devices):
                self._start(run.pk, run.attempt)

    def _start(self, run_id: int, attempt: int, *options: str) -> None:
        try:
            given = given_environment(host_slots.given_to(run_id))
            self._started[run_id] = start_train(self._manage, self._data, run_id, attempt, *options, given=given)
        except OSError as error:
            queue.fail_start(run_id, attempt, f"The training could not be started: {error.strerror}.")

    def _reap(self, now: float) -> None:
        """Handle the end of started processes; a run that is still queued by then could not be started."""
        for run_id, started in list(self._started.items()):
            code = started.exit_code
            if code is None:
                continue
            # A supervisor that was killed is replaced at once; one that gave up or failed may do so again.
            if code == EXIT_HELD or (started.adopts and code > 0 and now - started.started_at < SUPERVISOR_HEALTHY_S):
                self._put_off(run_id, now)
            else:
                self._retry.pop(run_id, None)
            if code not in (0, EXIT_HELD) and not started.adopts:
                queue.fail_start(run_id, started.attempt, self._redactor.text(started.ending()))
            del self._started[run_id]

    def _must_wait(self, run_id: int, now: float) -> bool:
        return now < self._retry.get(run_id, (0.0, 0.0))[0]

    def _put_off(self, run_id: int, now: float) -> None:
        wait_s = min(2 * self._retry.get(run_id, (0.0, FIRST_RETRY_S / 2))[1], LONGEST_RETRY_S)
        self._retry[run_id] = (now + wait_s, wait_s)

    def _is_held(self, run_id: int) -> bool:
        """Return whether a supervisor of this host holds the run, or is just starting or ending."""
        lock = try_lock(make_private(run_folder(self._data, run_id)) / "supervisor.lock")
        if lock is not None:
            lock.release()
        return lock is None

    # Runs without heartbeats

    def _bring_back_supervisors(self, now: float) -> None:
        """Start a supervisor for every open attempt of this host without one.

        It adopts a live worker; if that is dead too, it stores the remaining records and the end of the attempt.
        """
        opened = Attempt.objects.filter(
            host=self.host, ended_at=None, number=F("run__attempt"), run__state__in=(*LIVE, RunState.LOST)
        )
        others = [each for each in opened.select_related("run") if each.run_id not in self._started]
        here = [attempt for attempt in others if is_of_this_host(attempt)]
        self._attended = {attempt.run_id for attempt in here if self._is_held(attempt.run_id)}
        unattended = {
            (attempt.run_id, attempt.number): attempt for attempt in here if attempt.run_id not in self._attended
        }
        self._unattended_since = {key: self._unattended_since.get(key, now) for key in unattended}
        for (run_id, number), since in self._unattended_since.items():
            if now - since < UNATTENDED_S or self._must_wait(run_id, now):
                continue
            if not any_worker_lives(attempt_folder(self._data, run_id, number)):
                # Immediately, because recording how it ended takes a process that has to start first.
                mark_lost(run_id, number, unattended[run_id, number].run.heartbeat, Death())
            logger.warning("run %d: attempt %d has no supervisor; starting one", run_id, number)
            self._start(run_id, number, "--adopt")

    def _mark_lost(self, now: float) -> None:
        live = Run.objects.filter(state__in=LIVE).values_list("pk", "attempt", "heartbeat")
        pulses = [Pulse(*values) for values in live]
        for pulse, silent_s in self._heartbeats.measure(pulses, now).items():
            # An owner that cannot write to the database sends its heartbeats over the channel layer.
            silent_s = min(silent_s, received_heartbeats.silent_s(pulse.run_id, pulse.attempt))
            if silent_s >= MARK_LOST_AFTER_S and self._lose(pulse):
                logger.warning("run %d is lost: no heartbeat for %.0f s", pulse.run_id, silent_s)

    def _lose(self, pulse: Pulse) -> bool:
        """Mark a silent run as lost, unless its supervisor may have waited for the same long write as this watch."""
        began = time.monotonic()
        with transaction.atomic():
            waited_s = time.monotonic() - began
            return waited_s < LONGEST_WRITE_S and mark_lost(pulse.run_id, pulse.attempt, pulse.heartbeat)

    # The host and the leftovers

    def _publish_host(self) -> None:
        if gpus := self._devices.gpus():
            holders = host_slots.holders_here(self.host, gpus, self._started, self._is_held)
            self._gpu_use.seen(host_slots.host_devices(self.host, gpus), holders)
        shown = {"heartbeat_at": timezone.now(), "devices": self._gpu_use.published()}
        if not Host.objects.filter(name=self.host).update(heartbeat=F("heartbeat") + 1, **shown):
            Host.objects.create(name=self.host, **shown)

    def _fold_leftovers(self) -> None:
        """Compact the remaining events: for attempts that ended properly all but the newest, for dead ones all."""
        points = StoredEvent.objects.filter(run=OuterRef("pk"), kind__in=storage.POINT_KINDS)
        dead = Run.objects.filter(state__in=(*ENDED, RunState.LOST), heartbeat_at__lt=timezone.now() - FOLD_AFTER)
        for run_id in list(dead.filter(Exists(points)).values_list("pk", flat=True)[:FOLDED_RUNS_AT_ONCE]):
            storage.fold(run_id)
