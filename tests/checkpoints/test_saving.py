"""`run.save_checkpoint()` in one process: what it writes, what it keeps, and what it refuses with a note."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import steersman
from steersman.files.checkpoint import verify_checkpoint
from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.records.kinds import CheckpointRecord, NoteRecord
from steersman.run import Run, worker_lock_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


def records(folder: Path, kind: type[Any]) -> list[Any]:
    return [
        each for each in JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True) if isinstance(each, kind)
    ]


def test_a_checkpoint_is_whole_recorded_and_read_again(run, tmp_path):
    model = torch.nn.Linear(2, 1)
    run.log(7, loss=1.0)
    saved = run.save_checkpoint("mine", {"model": model, "place": {"epoch": 3}}, epoch=2, metrics={"loss": 0.5})
    assert saved is not None and run.newest_checkpoint() == saved
    (record,) = records(tmp_path, CheckpointRecord)
    assert (record.step, record.epoch, record.name, record.reason) == (7, 2, "mine", "named")
    assert record.has_manifest and record.metrics == {"loss": 0.5}
    manifest = verify_checkpoint(tmp_path / record.path, record.sha256)
    assert set(manifest.files) == {"model.pt", "place.pt"}
    # The reported size includes the manifest.
    size = sum(path.stat().st_size for path in saved.folder.iterdir())
    assert record.size_bytes == size
    other = torch.nn.Linear(2, 1)
    saved.restore({"model": other})
    assert torch.equal(other.weight, model.weight) and saved.load("place") == {"epoch": 3}
    with pytest.raises(KeyError, match="it has model, place"):
        saved.load("optimizer")


def test_the_last_two_and_the_named_stay(run, tmp_path):
    for step in range(1, 6):
        run.save_checkpoint("kept" if step == 1 else "last", {"step": step}, step=step)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-00000001", "step-00000004", "step-00000005"]


def test_it_takes_the_place_of_nothing_that_another_process_saved_at_the_step(run, tmp_path):
    first = run.save_checkpoint("one", {"value": 1}, step=1)
    later = Run(tmp_path, 0, None)
    second = later.save_checkpoint("two", {"value": 2}, step=1)
    assert first.load("value") == 1 and second.load("value") == 2


class Stubborn:
    def state_dict(self) -> None:
        raise ZeroDivisionError("no state")


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ({"model": object()}, "model has no state_dict()"),
        ({"model": Stubborn()}, "no state"),
        ({"../model": 1}, "is not a file name"),
        ({5: 1}, "is not a file name"),
        ({}, "takes objects by name"),
        (None, "takes objects by name"),
        ({"model": [object()]}, "model has no state_dict()"),
    ],
)
def test_what_cannot_be_saved_leaves_a_note_and_no_file(run, tmp_path, objects, why):
    assert run.save_checkpoint("last", objects, step=1) is None
    (note,) = records(tmp_path, NoteRecord)
    assert note.level == "error" and why in note.text and "step 1 could not be saved" in note.text
    assert not records(tmp_path, CheckpointRecord) and not list(tmp_path.glob("checkpoints/*"))


def test_why_a_checkpoint_was_not_saved_is_not_what_interrupted_the_training(run, tmp_path, monkeypatch):
    """Many scripts save when they are interrupted; the exception that they handle did not cause the failed save."""
    monkeypatch.delitem(sys.modules, "torch")
    for interrupted in (KeyboardInterrupt(), RuntimeError("the loss is NaN")):
        try:
            raise interrupted
        except BaseException:
            assert run.save_checkpoint("last", {"step": 1}) is None
    texts = [record.text for record in records(tmp_path, NoteRecord)]
    told = "The checkpoint last at step 0 could not be saved: torch must be imported before a checkpoint is saved."
    assert texts == [told] * 2


def test_a_full_disk_leaves_a_note_and_nothing_half(run, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("steersman.checkpoints.saving.write_manifest", full)
    assert run.save_checkpoint("last", {"value": 1}, step=1) is None
    (note,) = records(tmp_path, NoteRecord)
    assert "No space left on device" in note.text and not list(tmp_path.glob("checkpoints/*"))


def test_a_damaged_checkpoint_raises_in_words(run):
    saved = run.save_checkpoint("last", {"value": 1}, step=1)
    (saved.folder / "value.pt").write_bytes(b"half")
    with pytest.raises(steersman.Damaged, match="value.pt of the checkpoint step-00000001 is damaged"):
        saved.load("value")
    (saved.folder / "manifest.json").unlink()
    with pytest.raises(steersman.Damaged, match="missing or incomplete"):
        saved.load("value")


def test_without_a_supervisor_a_wrong_call_is_noticed_and_nothing_is_written(capsys):
    run = Run()
    assert run.save_checkpoint("last", {"value": 1}) is None and run.newest_checkpoint() is None
    assert (run.attempt, run.resumed) == (1, False)
    assert capsys.readouterr().err == ""
    run.save_checkpoint("last", {"value": object()})
    assert "value has no state_dict()" in capsys.readouterr().err
    assert run.directory.is_dir() and run.directory == run.directory
    assert "run.directory is" in capsys.readouterr().err
