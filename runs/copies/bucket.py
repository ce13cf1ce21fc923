"""The storage of copies in a bucket: S3, or a server with the interface of S3.

Needs django-storages and boto3, and is imported only if a bucket is set.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import IO, Any, ParamSpec, TypeVar, cast

from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files import File
from storages.backends.s3 import S3Storage
from storages.utils import clean_name

PROBLEMS = (Boto3Error, BotoCoreError, ClientError)
CONNECT_TIMEOUT_S = 4
ANSWER_TIMEOUT_S = 15
# A training host waits 20 s for each part of a download.
ATTEMPTS = 2
# Downloads share the connections of a process.
MOST_CONNECTIONS = 64
NOT_FOUND = 404
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise the errors of boto3 as `OSError`, as other storages do."""
    try:
        yield
    except PROBLEMS as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _raises_os_error(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    @wraps(method)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with _as_os_error():
            return method(*arguments, **named)

    return call


class CopyBucket(S3Storage):
    """A bucket of django-storages whose files are read as they arrive, from any byte on, without a local copy."""

    def get_default_settings(self) -> dict[str, Any]:
        """Return the defaults. No variable `AWS_…` of django-storages changes how files are stored."""
        found: dict[str, Any] = super().get_default_settings()
        return found | {"file_overwrite": True, "gzip": False}

    def __init__(self, *, checks_sums: bool, addressing_style: str, **options: Any) -> None:
        # Servers that are not Amazon's do not know all checksums that boto3 would add.
        sums = "when_supported" if checks_sums else "when_required"
        config = Config(
            s3={"addressing_style": addressing_style},
            signature_version="s3v4",
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=ANSWER_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=MOST_CONNECTIONS,
            request_checksum_calculation=sums,
            response_checksum_validation=sums,
        )
        super().__init__(client_config=config, **options)
        self._resource: Any = None
        self._opening = threading.Lock()

    @property
    def connection(self) -> Any:
        """The connection of all threads. Each request to the portal has a thread of its own, and a new one is slow."""
        with self._opening:
            if self._resource is None:
                self._resource = self._create_session().resource(
                    "s3", region_name=self.region_name, endpoint_url=self.endpoint_url, config=self.client_config
                )
            return self._resource

    @property
    def bucket(self) -> Any:
        return self.connection.Bucket(self.bucket_name)

    exists = _raises_os_error(S3Storage.exists)
    size = _raises_os_error(S3Storage.size)
    listdir = _raises_os_error(S3Storage.listdir)
    delete = _raises_os_error(S3Storage.delete)
    _save = _raises_os_error(S3Storage._save)

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        with _as_os_error():
            found = self.bucket.Object(self._normalize_name(clean_name(name)))
            try:
                found.load()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_FOUND:
                    raise FileNotFoundError(name) from error
                raise
            return File(cast(IO[bytes], _Remote(found, found.content_length)), name)


class _Remote(io.RawIOBase):
    """Reads an object of a bucket as a stream. A connection that breaks is opened again where it broke."""

    def __init__(self, found: Any, size: int) -> None:
        super().__init__()
        self.size = size
        self._object = found
        self._place = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._stop()
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self.size - self._place)
        if wanted <= 0:
            return 0
        data = self._read(wanted)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._stop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _as_os_error():
                    if self._body is None:
                        self._body = self._object.get(Range=f"bytes={self._place}-")["Body"]
                    data: bytes = self._body.read(wanted)
                if not data:
                    raise OSError("the storage sent only a part of a file")
                return data
            except OSError:
                self._stop()
                if attempt == ATTEMPTS:
                    raise
        return b""

    def _stop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
