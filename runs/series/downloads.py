"""Responses that are downloads. Points are streamed while they are read, whatever the length of the runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from channels.db import database_sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from runs.models import Attempt


def csv_response(request: HttpRequest, name: str, blocks: Iterator[str]) -> StreamingHttpResponse:
    """Return the download `name` of `blocks`.

    Under ASGI, Django would first collect a plain iterator in memory; here each block is produced in a thread.
    """
    content = _in_threads(blocks) if isinstance(request, ASGIRequest) else blocks
    return StreamingHttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def _in_threads(blocks: Iterator[str]) -> AsyncIterator[str]:
    # Not in the thread that page views share, which a long download would block.
    following = database_sync_to_async(lambda: next(blocks, None), thread_sensitive=False)
    while (block := await following()) is not None:
        yield block


def patch_response(attempt: Attempt) -> HttpResponse:
    """Return the patch of an attempt as a download for `git apply`."""
    response = HttpResponse(attempt.patch, content_type="text/x-diff; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="run-{attempt.run_id}-attempt-{attempt.number}.patch"'
    return response
