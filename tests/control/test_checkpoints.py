"""The checkpoint that a run resumes from, and the checkpoints that an attempt keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runs.models import Attempt, Checkpoint, Project, Run
from runs.recording.checkpoints import QUIET_STEPS
from steersman.files.checkpoint import Manifest, write_hashed, write_manifest
from steersman.files.retention import HOUR_S, STRETCH_STEPS, STRETCHES, Kept, dropped
from steersman.messages.reports import Line
from trainer.control.resume_choice import NoSuchCheckpoint, chosen, forget_older, newest, remove_unfinished

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(db: None, settings, tmp_path: Path) -> Run:
    settings.STEERSMAN_DATA = tmp_path
    return Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="first", attempt=1)


def attempt(run: Run, number: int, resumed_from: Checkpoint | None = None) -> Attempt:
    step = resumed_from.step if resumed_from else None
    return Attempt.objects.create(
        run=run, number=number, host="here", boot_id="b", supervisor_pid=1, resumed_from=resumed_from, resumed_step=step
    )


def save(run: Run, number: int, step: int, name: str = "last", folder: str = "") -> Checkpoint:
    """Create a complete checkpoint of an attempt, on disk and as a row."""
    path = f"attempts/{number}/checkpoints/{folder or f'step-{step:08d}'}"
    place = folder_of(run, path)
    place.mkdir(parents=True)
    files = {"model.pt": write_hashed(place / "model.pt", lambda file: file.write(b"weights"))}
    written = write_manifest(place, Manifest(step=step, epoch=1, name=name, reason="last", files=files))
    return Checkpoint.objects.create(
        run=run, attempt=number, step=step, epoch=1, name=name, path=path, size_bytes=written.size_bytes,
        sha256=written.sha256, created_at=MOMENT,
    )  # fmt: skip


def folder_of(run: Run, path: str) -> Path:
    from django.conf import settings

    return Path(settings.STEERSMAN_DATA) / "runs" / str(run.pk) / path


def damage(checkpoint: Checkpoint) -> None:
    (folder_of(checkpoint.run, checkpoint.path) / "model.pt").write_bytes(b"weightS")


def test_it_takes_the_newest_that_verifies_and_says_which_it_passed_over(run: Run) -> None:
    attempt(run, 1)
    first, second, third = (save(run, 1, step) for step in (10, 20, 30))
    (folder_of(run, third.path) / "manifest.json").unlink()
    damage(second)
    lines: list[Line] = []
    assert newest(run, lines) == first
    assert [line.text for line in lines] == [
        "The checkpoint at step 30 is damaged or gone (it is missing or incomplete): it is skipped.",
        "The checkpoint at step 20 is damaged or gone (the SHA-256 of model.pt differs from the recorded one): "
        "it is skipped.",
    ]
    damage(first)
    assert newest(run, []) is None


def test_it_leaves_alone_what_an_attempt_that_began_earlier_has_made_void(run: Run) -> None:
    attempt(run, 1)
    first, second, _ = (save(run, 1, step) for step in (10, 20, 30))
    attempt(run, 2, resumed_from=second)
    own = save(run, 2, 25)
    assert newest(run, []) == own
    damage(own)
    # Not step 30 of the first attempt: the run branched off at step 20.
    assert newest(run, []) == second
    attempt(run, 3, resumed_from=first)
    assert newest(run, []) == first


def test_of_several_at_one_step_it_takes_the_latest(run: Run) -> None:
    attempt(run, 1)
    save(run, 1, 10)
    later = save(run, 1, 10, folder="step-00000010-2")
    assert newest(run, []) == later


def test_one_may_be_chosen_by_id_name_or_step(run: Run) -> None:
    attempt(run, 1)
    first, named, again = save(run, 1, 1000), save(run, 1, 2000, "mine"), save(run, 1, 3000, "mine")
    assert chosen(run, str(first.pk)) == first
    assert chosen(run, "1000") == first
    assert chosen(run, "2000") == named
    assert chosen(run, "mine") == again
    damage(again)
    with pytest.raises(NoSuchCheckpoint, match=r"\(mine, step 3000\) cannot be used \(the SHA-256 of model.pt differs"):
        chosen(run, "mine")
    with pytest.raises(NoSuchCheckpoint, match=f"has no checkpoint other; it has {again.pk} "):
        chosen(run, "other")
    another = Run.objects.create(project=run.project, name="second")
    with pytest.raises(NoSuchCheckpoint, match="it has none"):
        chosen(another, str(first.pk))


def test_it_clears_away_what_killed_saves_left_and_nothing_else(run: Run) -> None:
    whole = save(run, 1, 10)
    torn = folder_of(run, "attempts/1/checkpoints/step-00000020")
    torn.mkdir()
    (torn / "model.pt").write_bytes(b"half")
    (torn / ".manifest.json.77.tmp").write_bytes(b"{")
    gone = save(run, 1, 30)
    (folder_of(run, gone.path) / "manifest.json").unlink()
    elsewhere = Checkpoint.objects.create(
        run=run, attempt=2, step=40, epoch=1, name="last", path="attempts/2/checkpoints/step-00000040", size_bytes=1,
        sha256="0", created_at=MOMENT,
    )  # fmt: skip
    lines: list[Line] = []
    remove_unfinished(run, lines)
    assert not torn.exists() and folder_of(run, whole.path).is_dir()
    assert set(Checkpoint.objects.all()) == {whole, elsewhere}
    assert [line.text for line in lines] == [
        "The checkpoint at step 30 has no files any more, and was removed from the list."
    ]


def test_a_new_attempt_forgets_what_no_rule_keeps_of_earlier_ones_but_not_what_it_goes_on_from(run: Run) -> None:
    saved = [save(run, number, number * 10 + part) for number in range(1, 5) for part in (1, 2)]
    for checkpoint, reason in zip(
        saved, ("best", "named", "last", "stop", "best", "last", "last", "last"), strict=True
    ):
        Checkpoint.objects.filter(pk=checkpoint.pk).update(reason=reason)
    forget_older(run, saved[2], [])
    left = [saved[index] for index in (1, 2, 3, 4, 6, 7)]
    assert list(Checkpoint.objects.order_by("pk")) == left
    assert [each for each in saved if folder_of(run, each.path).exists()] == left


def test_it_removes_nothing_outside_the_places_of_checkpoints(run: Run) -> None:
    elsewhere = folder_of(run, "elsewhere")
    elsewhere.mkdir(parents=True)
    saved = [save(run, 1, step) for step in (1, 2, 3, 4)]
    Checkpoint.objects.filter(pk=saved[0].pk).update(path="attempts/1/../../elsewhere")
    Checkpoint.objects.filter(pk=saved[1].pk).update(path=str(elsewhere))
    forget_older(run, None, [])
    assert elsewhere.is_dir() and Checkpoint.objects.count() == 4


def kept(*saves: tuple[str, float], every: int = 1000) -> list[Kept]:
    """Return checkpoints that were saved for these reasons at these hours, `every` so many steps."""
    return [
        Kept(Path(f"{number}"), reason, hour * HOUR_S, number * every) for number, (reason, hour) in enumerate(saves)
    ]


def left(checkpoints: list[Kept]) -> list[int]:
    gone = dropped(checkpoints)
    return [int(each.folder.name) for each in checkpoints if each not in gone]


def test_it_keeps_the_last_two_the_best_the_named_and_those_of_stops() -> None:
    saves = [("best", 0.1), ("named", 0.2), ("best", 0.3), ("stop", 0.4), ("last", 0.5), ("named", 0.6), ("last", 0.7)]
    assert left(kept(*saves, ("last", 0.8), ("last", 0.9))) == [1, 2, 3, 5, 7, 8]


def test_it_keeps_the_newest_of_each_of_the_last_24_hours_that_have_one() -> None:
    saves = [("last", hour + part) for hour in range(30) for part in (0.1, 0.6)]
    # The newest checkpoint of each of the hours 6 to 29, and the second to last.
    assert left(kept(*saves)) == sorted([*(2 * hour + 1 for hour in range(6, 30)), 58])


def test_it_keeps_some_of_the_last_steps_so_that_one_is_good_when_a_fault_begins() -> None:
    assert (STRETCHES - 1) * STRETCH_STEPS >= 2 * QUIET_STEPS
    saves = kept(*[("last", 0.5)] * 40, every=20)
    # Up to step 780: the newest of steps 550 to 599 and so on, and the last two.
    assert [20 * number for number in left(saves)] == [580, 640, 680, 740, 760, 780]
    # A rollback to step 680 leaves the later ones, which are not among the last steps any longer.
    again = [Kept(Path(f"{100 + number}"), "last", 1800.0, step) for number, step in enumerate((700, 720))]
    steps = [each.step for each in (*saves, *again) if each not in dropped([*saves, *again])]
    assert steps == [540, 580, 640, 680, 700, 720]


@pytest.mark.parametrize("every", [7, 50, 1000])
def test_repeated_cleaning_comes_to_the_same(every: int) -> None:
    saves = kept(*[("best" if number % 7 == 0 else "last", number / 5) for number in range(200)], every=every)
    at_once, one_by_one = list(saves), []
    for each in saves:
        one_by_one.append(each)
        for gone in dropped(one_by_one):
            one_by_one.remove(gone)
    for gone in dropped(at_once):
        at_once.remove(gone)
    assert at_once == one_by_one
