"""Storages of Django for pushed checkpoints in tests: one without paths on a disk, which can be unavailable."""

from __future__ import annotations

import threading
from typing import Any

from django.core.files.storage import InMemoryStorage


class MemoryStorage(InMemoryStorage):
    """Keeps files in memory. While `is_away` is set, every operation raises the error of a network.

    `fails_at` names a file that is not stored. `saved` has the names of all that were. While `waits` is not set, `save`
    does not return.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_away = False
        self.fails_at = ""
        self.saved: list[str] = []
        self.waits = threading.Event()
        self.waits.set()
        self.arrived = threading.Event()

    def _save(self, name: str, content: Any) -> str:
        self._answer()
        self.arrived.set()
        assert self.waits.wait(60)
        if self.fails_at and name.endswith(self.fails_at):
            raise ConnectionResetError("the connection was reset")
        self.saved.append(name)
        found: str = super()._save(name, content)
        return found

    def _open(self, name: str, mode: str = "rb") -> Any:
        self._answer()
        return super()._open(name, mode)

    def exists(self, name: str) -> bool:
        self._answer()
        return bool(super().exists(name))

    def listdir(self, path: str) -> Any:
        self._answer()
        return super().listdir(path)

    def delete(self, name: str) -> None:
        self._answer()
        super().delete(name)

    def _answer(self) -> None:
        if self.is_away:
            raise ConnectionRefusedError("storage.example.org:443 does not answer")
