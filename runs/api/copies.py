"""Status, pieces and end of a push; what was pushed, for the hosts that start from it."""

from __future__ import annotations

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from ninja import Field, Path, Query, Router, Schema

from runs.api.callers import TRAINERS, caller_of, train_token_only
from runs.api.errors import ApiError
from runs.api.pushing.answers import Refused, fetchable, finish, pushable, take
from runs.api.schemas.errors import ErrorOut
from runs.copies import folders
from runs.copies.sending import BehindEnd, NoSuchFile, open_file
from runs.models import LARGEST_ID, Checkpoint, Run

router = Router(tags=["runs"])
ERRORS = {401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 409: ErrorOut, 413: ErrorOut, 422: ErrorOut, 507: ErrorOut}
ADDRESS = "/{int:run_id}/copies/{sha256}/"
# Their list stays far below the longest answer that a training host reads.
MOST_CHECKPOINTS = 500
SHA256 = r"^[0-9a-f]{64}$"


class CopyOut(Schema):
    """`received` is the size of each file so far, in bytes."""

    is_complete: bool
    received: dict[str, int]


class FetchableOut(Schema):
    """A checkpoint of a run. Without `is_pushed`, only its own host has the files."""

    id: int
    name: str
    step: int
    epoch: int
    sha256: str
    size_bytes: int
    reason: str
    abandoned: bool = Field(description="The run was rolled back to a step before this checkpoint")
    is_pushed: bool


class FetchableRunOut(Schema):
    run: int
    name: str
    checkpoints: list[FetchableOut] = Field(
        description=f"The newest {MOST_CHECKPOINTS} checkpoints, beginning with the newest"
    )


@router.get(
    "/{int:run_id}/copies/",
    auth=list(TRAINERS),
    response={200: FetchableRunOut, **ERRORS},
    summary="The checkpoints from which another host can start",
)
def fetchable_checkpoints(request: HttpRequest, run_id: int) -> FetchableRunOut:
    """For tokens with the scope `train` of the project of the run."""
    run = _source(request, run_id)
    rows = run.checkpoints.filter(has_manifest=True).order_by("-created_at", "-pk")[:MOST_CHECKPOINTS]
    found = [
        FetchableOut(
            id=row.pk,
            name=row.name,
            step=row.step,
            epoch=row.epoch,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            reason=row.reason,
            abandoned=row.abandoned,
            # A restored backup has rows of copies that it does not contain.
            is_pushed=row.pushed_at is not None and folders.has_copy(run.pk, row.sha256),
        )
        for row in rows
    ]
    return FetchableRunOut(run=run.pk, name=run.name, checkpoints=found)


@router.get(
    ADDRESS + "{name}/",
    auth=list(TRAINERS),
    response={416: ErrorOut, **ERRORS},
    summary="A file of a pushed checkpoint",
)
def file(
    request: HttpRequest, run_id: int, name: str, sha256: str = Path(pattern=SHA256), offset: int = Query(0, ge=0)
) -> HttpResponseBase:
    """The bytes of the file from `offset` on; 416 if it ends before."""
    run = _source(request, run_id)
    try:
        found = open_file(run.pk, sha256, name, offset)
    except NoSuchFile as error:
        text = _("The portal has no such file of this checkpoint: push the checkpoint from its host.")
        raise ApiError(404, text, "sha256") from error
    except BehindEnd as error:
        text = _("The file has only %(size)d bytes: give a smaller offset.") % {"size": error.size_bytes}
        raise ApiError(416, text, "offset") from error
    response = StreamingHttpResponse(found.stream(), content_type="application/octet-stream")
    response["Content-Length"] = str(found.size_bytes)
    return response


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


def _source(request: HttpRequest, run_id: int) -> Run:
    token = caller_of(request).token
    if token is None:
        raise ApiError(403, train_token_only(), "Authorization")
    try:
        return fetchable(token, run_id if run_id <= LARGEST_ID else 0)
    except Refused as error:
        raise ApiError(error.status, str(error), "run" if error.status == 404 else "") from error


def _status(checkpoint: Checkpoint) -> CopyOut:
    run_id, sha256 = checkpoint.run_id, checkpoint.sha256
    return CopyOut(is_complete=folders.has_copy(run_id, sha256), received=folders.received(run_id, sha256))
