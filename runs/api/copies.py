"""Status, pieces and end of a push; what was pushed, for the hosts that start from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from ninja import Field, Path, Query, Router, Schema

from runs.api.callers import TRAINERS, caller_of, train_token_only
from runs.api.errors import ApiError
from runs.api.pushing.answers import Refused, fetchable, finish, pushable, take
from runs.api.schemas.errors import ErrorOut
from runs.copies import arriving, stored
from runs.copies.completing import is_being_stored
from runs.copies.sending import BehindEnd, NoSuchFile, open_file
from runs.copies.stored import StorageAway
from runs.models import LARGEST_ID, Checkpoint, Run

router = Router(tags=["runs"])
ERRORS = dict.fromkeys((401, 403, 404, 409, 413, 422, 503, 507), ErrorOut)
ADDRESS = "/{int:run_id}/copies/{sha256}/"
# A list of so many checkpoints is far shorter than the longest answer that a training host reads.
MOST_CHECKPOINTS = 500
SHA256 = r"^[0-9a-f]{64}$"


class CopyOut(Schema):
    """`received` is the size of each file so far, in bytes."""

    is_complete: bool
    is_being_stored: bool = Field(description="All files have arrived, and a request verifies and stores them")
    received: dict[str, int]
    damaged: list[str] = Field([], description="Files of an earlier copy that were damaged: send them again")


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
    with _storage_answers():
        # A restored backup has rows of copies that it does not contain.
        copies = stored.copies_of(run.pk)
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
            is_pushed=row.pushed_at is not None and row.sha256 in copies,
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
        with _storage_answers():
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
    data = request.read(arriving.LARGEST_PIECE_BYTES + 1)
    if len(data) > arriving.LARGEST_PIECE_BYTES:
        raise ApiError(413, _("A piece may have at most 2 MiB: send smaller pieces."), "body")
    try:
        take(checkpoint, name, offset, data)
    except Refused as error:
        raise ApiError(error.status, str(error), "name") from error
    except arriving.Misplaced as error:
        text = _("The portal has the first %(received)d bytes of the file: continue after them.")
        raise ApiError(409, text % {"received": error.received}, "offset") from error
    return _status(checkpoint)


@router.post(ADDRESS, auth=list(TRAINERS), response={200: CopyOut, **ERRORS}, summary="Finish the push of a checkpoint")
def end(request: HttpRequest, run_id: int, sha256: str = Path(pattern=SHA256)) -> CopyOut:
    """Verify all files by their SHA-256. From then on, the checkpoint can be downloaded from the page of its run.

    If the portal has a copy already, that is verified, and removed if it is damaged.
    """
    checkpoint = _checkpoint(request, run_id, sha256)
    try:
        damaged = finish(checkpoint)
    except Refused as error:
        raise ApiError(error.status, str(error), "sha256" if error.status != 503 else "") from error
    return CopyOut(is_complete=not damaged, is_being_stored=False, received={}, damaged=damaged)


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
    with _storage_answers():
        # In this order, because only copies are looked up in the storage, not the pieces of new ones.
        is_complete = checkpoint.pushed_at is not None and stored.has_copy(run_id, sha256)
    return CopyOut(
        is_complete=is_complete,
        is_being_stored=is_being_stored(run_id, sha256),
        received=arriving.received(run_id, sha256),
        damaged=[],
    )


@contextmanager
def _storage_answers() -> Iterator[None]:
    try:
        yield
    except StorageAway as error:
        raise ApiError(503, str(error)) from error
