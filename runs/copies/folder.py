"""The storage of copies if no bucket is set: the folder `pushed` of the data folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage

from runs.copies.arriving import pushed_folder
from steersman.files.checkpoint import sync_folder
from steersman.files.private import FILE_MODE, make_private


class CopyFolder(FileSystemStorage):
    """Files and folders for their owner only. A file with a path of its own is moved."""

    def __init__(self) -> None:
        super().__init__(file_permissions_mode=FILE_MODE, allow_overwrite=True)

    # Not cached, because the data folder may change in tests.
    @property
    def base_location(self) -> str:
        return str(pushed_folder())

    @property
    def location(self) -> str:
        return os.path.abspath(self.base_location)

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        # A link, which nobody else can place here, would lead elsewhere.
        return File(os.fdopen(os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW), "rb"), name)

    def _save(self, name: str, content: Any) -> str:
        folder = make_private(Path(self.path(name)).parent)
        saved: str = super()._save(name, content)  # type: ignore[misc]  # not in the stubs
        sync_folder(folder)
        return saved
