"""Which checkpoints a training host may push and fetch, and what it may be refused for."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from runs.access.roles import COMMANDING_ROLES, operators_only
from runs.copies import arriving, completing
from runs.copies.removals import remove_copy
from runs.copies.stored import StorageAway
from runs.models import AccessToken, Checkpoint, Membership, RemoteLaunch, Run
from runs.recording.checkpoints import note_lost_copy, note_push
from steersman.files.checkpoint import Damaged


class Refused(Exception):
    """A request is refused; the text is a sentence with the reason and the remedy."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def pushable(token: AccessToken, run_id: int, sha256: str) -> Checkpoint:
    """Return the checkpoint that a token may push: one of a run that its person opened. Raises `Refused`."""
    own = {"project": token.project, "created_by": token.created_by}
    if not RemoteLaunch.objects.filter(run_id=run_id, **own).exists():
        raise Refused(404, _("This token has not opened the run: push with the token that opened it."))
    if not Membership.objects.filter(project=token.project, user=token.created_by, role__in=COMMANDING_ROLES).exists():
        raise Refused(403, operators_only())
    found = Checkpoint.objects.filter(run_id=run_id, sha256=sha256, has_manifest=True).order_by("pk").last()
    if found is None:
        raise Refused(
            404,
            _(
                "The run has no such checkpoint. If it was saved while the portal was unreachable, run steersman sync "
                "first."
            ),
        )
    if found.size_bytes > settings.STEERSMAN_PUSH_MIB << 20:
        text = _(
            "The checkpoint has %(size)d MiB, but the portal accepts at most %(most)d MiB: ask its administrator to "
            "raise STEERSMAN_PUSH_MIB."
        )
        raise Refused(413, text % {"size": found.size_bytes >> 20, "most": settings.STEERSMAN_PUSH_MIB})
    return found


def fetchable(token: AccessToken, run_id: int) -> Run:
    """Return a run whose checkpoints a token may fetch: any of its project. Raises `Refused`."""
    run = Run.objects.filter(pk=run_id, project=token.project).first()
    if run is None:
        text = _(
            "The project %(project)s has no run %(run)d, or it was deleted. For a run of another project, use a token "
            "of that project."
        )
        raise Refused(404, text % {"project": token.project.name, "run": run_id})
    if not Membership.objects.filter(project=token.project, user=token.created_by, role__in=COMMANDING_ROLES).exists():
        raise Refused(403, operators_only())
    return run


def take(checkpoint: Checkpoint, name: str, offset: int, data: bytes) -> int:
    """Store a piece; return the size of its file. Raises `Refused` and `arriving.Misplaced`."""
    run_id, sha256 = checkpoint.run_id, checkpoint.sha256
    try:
        return arriving.take_piece(run_id, sha256, name, offset, data, checkpoint.size_bytes)
    except arriving.BadFile as error:
        raise Refused(
            422, _("The checkpoint has no such file, or the file is too large: push the checkpoint again.")
        ) from error
    except arriving.NoRoom as error:
        raise _full() from error


def finish(checkpoint: Checkpoint) -> list[str]:
    """Verify the files and make them the copy of the checkpoint; return [].

    If there is a copy and it is damaged, it is removed: return its damaged files. Raises `Refused`.
    """
    run_id, sha256 = checkpoint.run_id, checkpoint.sha256
    try:
        if checkpoint.pushed_at is not None and (damaged := completing.remove_damaged(run_id, sha256)):
            note_lost_copy(checkpoint)
            return damaged
        completing.complete(run_id, sha256)
    except completing.BeingStored as error:
        raise Refused(503, _("The portal is already storing this checkpoint: push it again later.")) from error
    except StorageAway as error:
        raise Refused(503, str(error)) from error
    except arriving.NoRoom as error:
        raise _full() from error
    except Damaged as error:
        text = _("The received files do not match the checkpoint (%(reason)s): push the checkpoint again.")
        raise Refused(422, text % {"reason": error}) from error
    if not note_push(checkpoint):
        remove_copy(run_id, sha256)
        raise Refused(404, _("The checkpoint was removed while it was pushed."))
    arriving.forget(run_id, sha256)
    return []


def _full() -> Refused:
    return Refused(507, _("The disk of the portal is full: push the checkpoint again when there is room."))
