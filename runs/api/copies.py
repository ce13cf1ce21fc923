"""Status, pieces and end of a push."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Path, Query, Router, Schema

from runs.api.callers import TRAINERS, caller_of, train_token_only
from runs.api.errors import ApiError
from runs.api.pushing.answers import Refused, finish, pushable, take
from runs.api.schemas.errors import ErrorOut
from runs.copies import folders
from runs.models import LARGEST_ID, Checkpoint

router = Router(tags=["runs"])
ERRORS = {401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 409: ErrorOut, 413: ErrorOut, 422: ErrorOut, 507: ErrorOut}
ADDRESS = "/{int:run_id}/copies/{sha256}/"
SHA256 = r"^[0-9a-f]{64}$"


class CopyOut(Schema):
    """`received` is the size of each file so far, in bytes."""

    is_complete: bool
    received: dict[str, int]


@router.get(ADDRESS, auth=list(TRAINERS), response={200: CopyOut, **ERRORS}, summary="Received files of a checkpoint")
def status(request: HttpRequest, run_id: int, sha256: str = Path(pattern=SHA256)) -> CopyOut:
    """For the token with the scope `train` that opened the run. `sha256` is that of the checkpoint's manifest."""
    return _status(_checkpoint(request, run_id, sha256))


@router.put(
    ADDRESS + "{name}/", auth=list(TRAINERS), response={200: CopyOut, **ERRORS}, summary="Push a piece of a checkpoint"
)
def piece(
    request: HttpRequest, run_id: int, name: str, sha256: str = Path(pattern=SHA256), offset: int = Query(ge=0)
) -> CopyOut:
    """The body is the piece, up to 2 MiB. 409 if the file does not end at `offset`."""
    checkpoint = _checkpoint(request, run_id, sha256)
    data = request.read(folders.LARGEST_PIECE_BYTES + 1)
    if len(data) > folders.LARGEST_PIECE_BYTES:
        raise ApiError(413, _("A piece may have at most 2 MiB: send smaller pieces."), "body")
    try:
        take(checkpoint, name, offset, data)
    except Refused as error:
        raise ApiError(error.status, str(error), "name") from error
    except folders.Misplaced as error:
        text = _("The portal has the first %(received)d bytes of the file: continue after them.")
        raise ApiError(409, text % {"received": error.received}, "offset") from error
    return _status(checkpoint)


@router.post(ADDRESS, auth=list(TRAINERS), response={200: CopyOut, **ERRORS}, summary="Finish the push of a checkpoint")
def end(request: HttpRequest, run_id: int, sha256: str = Path(pattern=SHA256)) -> CopyOut:
    """Verify all files by their SHA-256. From then on, the checkpoint can be downloaded from the page of its run."""
    checkpoint = _checkpoint(request, run_id, sha256)
    try:
        finish(checkpoint)
    except Refused as error:
        raise ApiError(error.status, str(error), "sha256") from error
    return _status(checkpoint)


def _checkpoint(request: HttpRequest, run_id: int, sha256: str) -> Checkpoint:
    token = caller_of(request).token
    if token is None:
        raise ApiError(403, train_token_only(), "Authorization")
    if run_id > LARGEST_ID:
        run_id = 0
    try:
        return pushable(token, run_id, sha256)
    except Refused as error:
        raise ApiError(error.status, str(error), "sha256" if error.status == 404 else "") from error


def _status(checkpoint: Checkpoint) -> CopyOut:
    run_id, sha256 = checkpoint.run_id, checkpoint.sha256
    return CopyOut(is_complete=folders.has_copy(run_id, sha256), received=folders.received(run_id, sha256))
