"""Checkpoints that would run code: content that an attacker could put into a file that is loaded."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch


class Runs:
    """Runs a shell command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


class Evaluates(Runs):
    """Runs Python when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.eval, (f"open({str(self.canary)!r}, 'w').close()",)


class Executes(Runs):
    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (f"open({str(self.canary)!r}, 'w').close()",)


class SetsState(Runs):
    """Runs code of a second object, given as the state of a harmless one."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.nn.Identity, (), {"extra": Runs(self.canary)}


def zipped(content: Any) -> bytes:
    """Return the format that `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def legacy(content: Any) -> bytes:
    """Return the format that `torch.save` wrote before version 1.6."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tarred(content: Any) -> bytes:
    """Return a file of the oldest format, a tar archive of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def bare(content: Any) -> bytes:
    return pickle.dumps(content, protocol=4)


def oldest(content: Any) -> bytes:
    return pickle.dumps(content, protocol=0)


def climbing(content: Any) -> bytes:
    """Return a zip whose members, including the pickle, have paths outside the folder of extraction."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("../../archive/version", "3")
    return buffer.getvalue()


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda evil: evil,
    "in a state dict": lambda evil: {"0.weight": torch.zeros(2), "0.bias": evil},
    "deep inside": lambda evil: {"state": {0: [{"momentum": (1, [evil])}]}},
    "as a key": lambda evil: {("name", evil): 1},
}
FORMATS: dict[str, Callable[[Any], bytes]] = {
    each.__name__: each for each in (zipped, legacy, tarred, bare, oldest, climbing)
}


def poison(checkpoint: Path, name: str, content: bytes) -> str:
    """Put `content` into a file of a checkpoint, with a manifest that confirms it; return the manifest's SHA-256."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][name] = {"size_bytes": len(content), "sha256": sha256(content).hexdigest()}
    return rewrite(checkpoint, json.dumps(manifest).encode())


def rewrite(checkpoint: Path, manifest: bytes) -> str:
    """Replace the manifest; return its SHA-256."""
    (checkpoint / "manifest.json").write_bytes(manifest)
    return sha256(manifest).hexdigest()
