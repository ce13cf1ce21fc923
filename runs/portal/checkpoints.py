"""Downloading a checkpoint from the host where it is stored, for people who may command the run."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.access.roles import commanded_run
from runs.copies.stored import StorageAway, open_all
from runs.models import LARGEST_ID, Checkpoint, Run
from runs.portal.checkpoint_files import Archive, NotThere, archive_of, open_archive
from runs.recording.checkpoints import host_of

RETRY_AFTER_S = 60


@never_cache
@login_required
@require_GET
def download(request: HttpRequest, pk: int, checkpoint_id: int) -> HttpResponseBase:
    """Return the checkpoint as a tar file; 404 if it no longer exists, 409 if it is on another host, and
    503 if the storage of pushed checkpoints is unavailable."""
    run = commanded_run(request.user, pk)
    checkpoint = run.checkpoints.filter(pk=checkpoint_id).first() if checkpoint_id <= LARGEST_ID else None
    if checkpoint is None:
        return _refuse(request, run, 404, _("The run no longer has this checkpoint. Newer ones have replaced it."))
    name = _file_name(run, checkpoint)
    try:
        archive = _open(checkpoint, name)
    except (NotThere, FileNotFoundError):
        return _explain(request, run, checkpoint)
    except StorageAway as error:
        refused = _refuse(request, run, 503, str(error))
        refused["Retry-After"] = str(RETRY_AFTER_S)
        return refused
    response = StreamingHttpResponse(archive.stream(), content_type="application/x-tar")
    response["Content-Length"] = str(archive.size)
    response["Content-Disposition"] = f'attachment; filename="{name}.tar"'
    return response


def _open(checkpoint: Checkpoint, name: str) -> Archive:
    """Open the files of a checkpoint. Raises `NotThere`, `FileNotFoundError` and `StorageAway`."""
    if checkpoint.pushed_at is None:
        return open_archive(Path(settings.STEERSMAN_DATA) / "runs" / str(checkpoint.run_id), checkpoint.path, name)
    return archive_of(open_all(checkpoint.run_id, checkpoint.sha256), name, int(checkpoint.created_at.timestamp()))


def _explain(request: HttpRequest, run: Run, checkpoint: Checkpoint) -> HttpResponse:
    """Explain why the files are not here, without the name of the other host."""
    if host_of(checkpoint) not in ("", socket.gethostname()):
        text = _(
            "The checkpoint is on its training host, not on the host of this portal. Copy the checkpoint from there, "
            "or send it here with steersman push."
        )
        return _refuse(request, run, 409, text)
    return _refuse(request, run, 404, _("The files of the checkpoint are gone from the disk."))


def _refuse(request: HttpRequest, run: Run, status: int, sentence: str) -> HttpResponse:
    return render(
        request, "runs/checkpoint_refused.html", {"run": run, "sentence": sentence, "status": status}, status=status
    )


def _file_name(run: Run, checkpoint: Checkpoint) -> str:
    """Return a file name that every operating system accepts."""
    name = re.sub(r"[^A-Za-z0-9.+-]+", "-", checkpoint.name).strip("-.") or "checkpoint"
    return f"run-{run.pk}-step-{checkpoint.step}-{name}"
