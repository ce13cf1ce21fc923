"""The choice of a checkpoint when a rollback that waited takes effect: what was saved last on the current line."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.checkpoints.own import OwnCheckpoints
from steersman.files.checkpoint import MANIFEST, Damaged, Manifest, write_hashed, write_manifest
from steersman.records.posted import RollBackArguments

NONE = {"path": "", "sha256": "", "step": 0, "epoch": 0, "has_manifest": False}


def save(run: Path, attempt: int, folder: str, step: int, name: str, reason: str = "named") -> tuple[str, str]:
    """Write a checkpoint; return its path in the folder of the run, and its hash."""
    path = f"attempts/{attempt}/checkpoints/{folder}"
    (run / path).mkdir(parents=True)
    files = {"model.pt": write_hashed(run / path / "model.pt", lambda file: file.write(name.encode()))}
    return path, write_manifest(run / path, Manifest(step, 1, name, reason, files, knobs={"rate": {"": step}})).sha256


def wanted(text: str, **given: object) -> RollBackArguments:
    return RollBackArguments(checkpoint=text, wanted=text, **(NONE | given))  # type: ignore[arg-type]


def test_it_is_the_newest_that_fits_and_was_not_abandoned(tmp_path: Path) -> None:
    attempt = tmp_path / "attempts" / "2"
    save(tmp_path, 2, "step-00000010", 10, "a", "best")
    save(tmp_path, 2, "step-00000010-2", 10, "b")
    save(tmp_path, 2, "step-00000020", 20, "a")
    own = OwnCheckpoints()

    def name_and_step(text: str) -> tuple[str, int]:
        found = own.found(attempt, wanted(text))
        assert found.knobs == {"rate": {"": found.arguments.step}} and found.folder.is_dir()
        return found.arguments.checkpoint, found.arguments.step

    chosen = {text: name_and_step(text) for text in ("newest", "best", "10", "a", "b")}
    assert chosen == {"newest": ("a", 20), "best": ("a", 10), "10": ("b", 10), "a": ("a", 20), "b": ("b", 10)}
    own.abandon_after(10)
    assert (name_and_step("newest"), name_and_step("a")) == (("b", 10), ("a", 10))
    # What is saved at the same step afterwards counts again.
    save(tmp_path, 2, "step-00000020-2", 20, "again")
    assert name_and_step("20") == ("again", 20)
    with pytest.raises(Damaged, match="has no checkpoint nowhere to roll back to at this step"):
        own.found(attempt, wanted("nowhere"))
    (tmp_path / "attempts/2/checkpoints/step-00000020-2" / MANIFEST).unlink()
    assert name_and_step("newest") == ("b", 10)


def test_that_of_an_earlier_attempt_is_taken_if_there_is_none_of_its_own_and_no_roll_back_went_before_it(
    tmp_path: Path,
) -> None:
    path, sha256 = save(tmp_path, 1, "step-00000010", 10, "early")
    attempt, own = tmp_path / "attempts" / "2", OwnCheckpoints()
    before = wanted("early", path=path, sha256=sha256, step=10, epoch=1, has_manifest=True)
    assert own.found(attempt, before).folder == tmp_path / path
    own.abandon_after(10)
    assert own.found(attempt, before).folder == tmp_path / path
    save(tmp_path, 2, "step-00000012", 12, "early")
    assert own.found(attempt, before).arguments.step == 12
    own.abandon_after(5)
    with pytest.raises(Damaged, match="no checkpoint early"):
        own.found(attempt, before)
