"""Poisoned checkpoints: none of their code runs, no path leaves their folder, and each ends in a message."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.poison import FORMATS, WRAPPINGS, Evaluates, Executes, Runs, SetsState, poison, rewrite, zipped
from tests.support.remembering import RememberingRun, noisy, one_thread, run_through
from trainer.worker.checkpoints import CheckpointError, load_checkpoint
from trainer.worker.loop import train

__all__ = ["one_thread"]

FILES = ("model.pt", "training.pt", "rank-0000.pt")
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_through(RememberingRun(tmp_path_factory.mktemp("saved"), stop_at=2), noisy())
    return Path(run.checkpoints[-1]["path"])


@pytest.fixture
def checkpoint(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint for the test to damage."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoints" / saved.name))


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("kind", [Runs, Evaluates, Executes, SetsState])
def test_nothing_in_a_checkpoint_runs(saved: Path, tmp_path: Path, kind: type[Runs], written: str) -> None:
    canary = tmp_path / "canary"
    for wrapping in WRAPPINGS.values():
        content = FORMATS[written](wrapping(kind(canary)))
        for file in FILES:
            spoilt = Path(shutil.copytree(saved, tmp_path / saved.name))
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(spoilt, poison(spoilt, file, content))
            assert not canary.exists()
            expected = f"The checkpoint step-00000002 cannot be used: {file} contains more than plain values"
            assert str(caught.value).startswith(expected)
            shutil.rmtree(spoilt)


@pytest.mark.parametrize("kind", [Runs, Evaluates, Executes, SetsState])
def test_the_poison_would_work_on_one_who_trusts_it(tmp_path: Path, kind: type[Runs]) -> None:
    canary = tmp_path / "canary"
    for written in ("zipped", "legacy"):
        (tmp_path / "file.pt").write_bytes(FORMATS[written]({"bias": kind(canary)}))
        torch.load(tmp_path / "file.pt", weights_only=False)
        canary.unlink()
    for written in ("bare", "oldest"):
        pickle.loads(FORMATS[written](kind(canary)))
        canary.unlink()


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        cut_short(zipped({"weights": torch.zeros(100)})),
        zipped([1, 2]),
        zipped(torch.zeros(3)),
        os.urandom(64),
    ],
    ids=["empty", "a zip's beginning", "half a file", "a list", "a tensor", "noise"],
)
@pytest.mark.parametrize("file", FILES)
def test_what_is_no_checkpoint_ends_in_a_sentence(checkpoint: Path, file: str, content: bytes) -> None:
    sha256 = poison(checkpoint, file, content)
    with pytest.raises(CheckpointError, match=f"cannot be used.*{file}"):
        load_checkpoint(checkpoint, sha256)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model", lambda content: {"weight": 1}),
        ("optimizer", lambda content: "none"),
        ("optimizer", lambda content: {"state": {}, "param_groups": []}),
        ("scheduler", lambda content: 5),
        ("random", lambda content: {"python": ("a", "b", "c")}),
        ("progress", lambda content: {"stepp": 1}),
        ("progress", lambda content: {**content, "sums": {"loss": 1.5}}),
    ],
)
def test_plain_values_that_are_none_of_ours_end_in_a_sentence(
    checkpoint: Path, name: str, change: Callable[[Any], Any]
) -> None:
    sha256 = rewrite(checkpoint, (checkpoint / "manifest.json").read_bytes())
    content = load_checkpoint(checkpoint, sha256)
    with pytest.raises(
        CheckpointError, match="The checkpoint does not fit|The checkpoint does not hold what Steersman saves"
    ):
        train(noisy(), RememberingRun(), content | {name: change(content[name])})


@pytest.mark.parametrize(
    "name",
    [
        "../training.pt",
        "../../secret",
        "/etc/passwd",
        "a/b.pt",
        "..",
        ".",
        "",
        "manifest.json",
        "a\0b",
        ".hidden",
        "a\\b\n",
    ],
)
def test_a_manifest_leads_to_no_file_outside_its_folder(checkpoint: Path, name: str) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["model.pt"]
    sha256 = rewrite(checkpoint, json.dumps(manifest).encode())
    with pytest.raises(CheckpointError, match="lists a file outside its folder"):
        load_checkpoint(checkpoint, sha256)


def test_a_link_in_a_checkpoint_is_not_followed(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.pt").rename(tmp_path / "elsewhere.pt")
    (checkpoint / "model.pt").symlink_to(tmp_path / "elsewhere.pt")
    sha256 = rewrite(checkpoint, (checkpoint / "manifest.json").read_bytes())
    with pytest.raises(CheckpointError, match="model.pt is missing"):
        load_checkpoint(checkpoint, sha256)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format": 2}',
        b'{"format": 2, "step": 1, "epoch": 1, "name": "", "reason": "", "metrics": {}, "files": [1]}',
        b'{"format": 2, "step": "x", "epoch": 1, "name": "", "reason": "", "metrics": {}, "files": {}}',
        b'{"format": 2, "step": 1, "epoch": 1, "name": "", "reason": "", "metrics": {}, "files": {"a.pt": {}}}',
        b'{"format": 2, "step": 1, "epoch": 1, "name": "", "reason": "", "metrics": {}, "files": {"a": null}}',
        b"\xff\xfe\x00",
        b'"' + b"x" * (5 << 20) + b'"',
    ],
    ids=lambda manifest: manifest[:12].decode(errors="replace"),
)
def test_a_manifest_that_is_none_ends_in_a_sentence(checkpoint: Path, manifest: bytes) -> None:
    sha256 = rewrite(checkpoint, manifest)
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_checkpoint(checkpoint, sha256)


def test_a_manifest_that_forgets_a_file_ends_in_a_sentence(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"]["model.pt"]
    sha256 = rewrite(checkpoint, json.dumps(manifest).encode())
    with pytest.raises(CheckpointError, match="its manifest does not list model.pt"):
        load_checkpoint(checkpoint, sha256)


def test_another_format_says_which_this_version_reads(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    sha256 = rewrite(checkpoint, json.dumps(manifest | {"format": 9}).encode())
    with pytest.raises(CheckpointError, match="it has format 9, but this version of Steersman reads format 2"):
        load_checkpoint(checkpoint, sha256)
