"""The archive: hides runs from the lists of the portal and restores them, without deleting anything."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.audit.entries import record
from runs.curation.about import notify_viewers
from runs.models import AuditKind, Run, RunState
from runs.protocol.states import LIVE, LOST

# A run that trains, or will start, must stay in the list.
IN_USE = LIVE | LOST | {RunState.QUEUED}


class NotArchivable(Exception):
    """The run is in use; the text is a sentence that says what to do."""


def archive(run_id: int) -> bool:
    """Archive a run; return whether it was not archived before. Links to it still work.

    Raises `NotArchivable` if it is in use, `Run.DoesNotExist` if there is no such run.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run_id)
        if run.archived_at is not None:
            return False
        if run.state in IN_USE:
            text = _("Run %(run)s is %(state)s: stop it first, then archive it.")
            raise NotArchivable(text % {"run": run, "state": run.get_state_display()})
        Run.objects.filter(pk=run_id).update(archived_at=timezone.now())
        record(AuditKind.RUN_ARCHIVED, project=run.project, run=run.pk, what=run.name)
        notify_viewers(run_id)
    return True


def unarchive(run_id: int) -> bool:
    """Restore a run from the archive; return whether it was archived. Raises `Run.DoesNotExist`."""
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).select_related("project").get(pk=run_id)
        if run.archived_at is None:
            return False
        Run.objects.filter(pk=run_id).update(archived_at=None)
        record(AuditKind.RUN_UNARCHIVED, project=run.project, run=run.pk, what=run.name)
        notify_viewers(run_id)
    return True
