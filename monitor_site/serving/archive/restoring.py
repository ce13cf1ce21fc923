"""Restores a backup into an empty installation, and sets the states of its runs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models import F

from monitor_site.serving.archive import manifest as names
from monitor_site.serving.archive import unfinished
from monitor_site.serving.archive.database import engine, filled_tables, load_snapshot
from monitor_site.serving.archive.manifest import ArchiveError, Manifest
from monitor_site.serving.archive.reading import read_manifest, unpack
from runs.copies.stored import StorageAway, copies_of
from runs.models import AlertDelivery, Attempt, Checkpoint, DeliveryState, Run, RunState, SocketCounts
from runs.recording.lifecycle import LIVE
from runs.recording.queue import leave_queue
from runs.recording.status import announce_status
from steersman.agent.folders import attempt_folder, host_name
from steersman.files.data_folder import UNFINISHED_RESTORE
from steersman.files.locks import try_lock
from steersman.files.private import make_private

UNPACKED, LOCK = "restore-unpacked", "restore.lock"
NOT_SENT = "The message was not sent, because it was restored from a backup."


def restore_backup(source: Path, data: Path, *, keep_queue: bool = False) -> Manifest:
    """Restore the backup `source` into this installation, which must be empty. Raises `ArchiveError`.

    Everything is checked before anything is put in place. If it is interrupted at any moment, another call removes what
    the first one put in place, and only that, and starts again.
    """
    lock = try_lock(data / LOCK)
    if lock is None:
        raise ArchiveError("Another restore into this data folder is in progress: wait until it has finished.")
    try:
        return _complete(source, data) or _restore(source, data, keep_queue=keep_queue)
    except OSError as error:
        raise ArchiveError(
            f"The backup could not be put in place: {error.strerror or error}. Free disk space, or make "
            "the user of this command the owner of the data folder and of the backup file, and try again."
        ) from error
    finally:
        shutil.rmtree(data / UNPACKED, ignore_errors=True)
        lock.release()


def _complete(source: Path, data: Path) -> Manifest | None:
    """Return the manifest of `source` if its restore was interrupted after its last transaction, with all in place."""
    begun = unfinished.read_begun(data)
    if begun is None or not begun.ending or unfinished.token_in_database() or not filled_tables():
        return None
    unfinished.forget_begun(data)
    manifest = read_manifest(source)
    return manifest if begun.is_of(manifest) else None


def _restore(source: Path, data: Path, *, keep_queue: bool) -> Manifest:
    _refuse_filled(data)
    unpacked = data / UNPACKED
    shutil.rmtree(unpacked, ignore_errors=True)
    make_private(unpacked)
    manifest = unpack(source, unpacked)
    _refuse_unfit(manifest)
    # The mark of an earlier restore stays until its rows are gone.
    begun = unfinished.read_begun(data) or unfinished.begun_of(manifest)
    begun = replace(unfinished.begun_of(manifest), token=begun.token)
    unfinished.write_begun(data, begun)
    _put_files(unpacked / names.DATA, data)
    snapshot = unpacked / names.DATABASES[manifest.engine]
    unfinished.mark(begun, snapshot)
    try:
        load_snapshot(snapshot)
    except ArchiveError:
        _take_back(data)
        raise
    call_command("migrate", verbosity=0, interactive=False)
    unfinished.write_begun(data, replace(begun, ending=True))
    with transaction.atomic():
        settle(manifest, data, keep_queue=keep_queue)
        unfinished.unmark()
    connection.close()
    unfinished.forget_begun(data)
    return manifest


def _take_back(data: Path) -> None:
    """Make the installation empty again; rows of an interrupted restore keep their mark."""
    if not filled_tables():
        shutil.rmtree(data / names.RUNS, ignore_errors=True)
        unfinished.unmark()
        unfinished.forget_begun(data)


def _refuse_filled(data: Path) -> None:
    """Raise `ArchiveError` if the installation has data that is not from an interrupted restore."""
    begun, marked = unfinished.read_begun(data), unfinished.token_in_database()
    runs = data / names.RUNS
    if marked and (begun is None or begun.token != marked):
        raise ArchiveError(
            "An unfinished restore into this database used another data folder: set STEERSMAN_DATA to that folder, "
            "and run the restore again. If that folder is gone, recreate the database, then try again."
        )
    filled = [] if marked else filled_tables()
    if filled:
        text = f"The database already contains rows ({', '.join(filled[:3])} …): restore the backup into an empty one."
        if begun is not None:
            text += (
                f" An earlier restore ended before its own rows were in place: remove {data / UNFINISHED_RESTORE} to "
                "keep what is there, or recreate the database and try again."
            )
        raise ArchiveError(text)
    if begun is None and runs.is_dir() and any(runs.iterdir()):
        raise ArchiveError(
            f"{runs} already contains runs: a backup can only be restored into an empty data folder; set "
            "STEERSMAN_DATA to one."
        )


def _refuse_unfit(manifest: Manifest) -> None:
    if manifest.engine != engine():
        raise ArchiveError(
            f"The backup was made on {manifest.engine}, but this installation uses {engine()}: "
            "set STEERSMAN_DATABASE_URL to a database of the same kind."
        )
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    newer = [name for name in manifest.migrations if name not in known]
    if newer:
        raise ArchiveError(
            f"The backup was made by a newer version (it has the migration {newer[-1]}): install that version first."
        )


def _put_files(unpacked: Path, data: Path) -> None:
    secret = unpacked / names.SECRET_KEY
    if secret.exists():
        os.replace(secret, data / names.SECRET_KEY)
    runs = data / names.RUNS
    # It is empty, or from an interrupted restore.
    if runs.is_dir():
        shutil.rmtree(runs)
    if (unpacked / names.RUNS).is_dir():
        os.replace(unpacked / names.RUNS, runs)


def settle(manifest: Manifest, data: Path, *, keep_queue: bool) -> None:
    """Update the rows for a new host, on which no process of the backup's host is running.

    Call inside a transaction.
    """
    reason = f"The run was restored from a backup of {manifest.made_at}, which contains no training processes."
    SocketCounts.objects.all().delete()
    waiting = AlertDelivery.objects.filter(state__in=(DeliveryState.WAITING, DeliveryState.SENDING))
    waiting.update(state=DeliveryState.DROPPED, error=NOT_SENT, claimed_until=None)
    # The files are on this host now, and runs resume on the host with their files. An empty boot id matches no live
    # process.
    for attempt in Attempt.objects.filter(host=manifest.host):
        if attempt_folder(data, attempt.run_id, attempt.number).is_dir():
            Attempt.objects.filter(pk=attempt.pk).update(host=host_name(), boot_id="")
    Run.objects.filter(queued_host=manifest.host).update(queued_host=host_name())
    # No run may start without a person: a lost run of the backup must not be restarted.
    used = F("restarts_used") if keep_queue else F("restarts")
    for run in Run.objects.select_for_update().filter(state__in=LIVE).order_by("pk"):
        Run.objects.filter(pk=run.pk).update(state=RunState.LOST, reason=reason, restarts_used=used)
        announce_status(run.pk)
    forget_missing_copies()
    if not keep_queue:
        for run in Run.objects.select_for_update().filter(state=RunState.QUEUED).order_by("pk"):
            leave_queue(run, "restored from a backup")


def forget_missing_copies() -> None:
    """Update the rows of pushed checkpoints whose copies are not in the storage: no archive contains copies.

    Checkpoints that are on no host either are deleted. If the storage is unavailable, the rows stay as they are.
    """
    pushed = Checkpoint.objects.exclude(pushed_at=None).order_by()
    for run_id in pushed.values_list("run_id", flat=True).distinct():
        try:
            missing = pushed.filter(run=run_id).exclude(sha256__in=copies_of(run_id))
        except StorageAway:
            return
        missing.filter(on_host=False).delete()
        missing.update(pushed_at=None)
