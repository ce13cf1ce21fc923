"""The Transformer: what it reads, that it learns, what it writes, and that it resumes exactly from a checkpoint."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.remembering import CPU, RememberingRun, last_checkpoint, one_thread, run_through
from trainer.recipes.datasets import load_documentation, load_standard_library
from trainer.recipes.schedules import warmup_cosine
from trainer.recipes.transformer import BYTES, Transformer, readable, rotary, rotated
from trainer.worker.recipe import SpecError, load_recipe

__all__ = ["one_thread"]

SMALL = {
    "epochs": 2, "batch_size": 64, "context": 32, "layers": 1, "heads": 2, "head_width": 8, "dropout": 0.1,
    "warmup_steps": 5, "sample_length": 20,
}  # fmt: skip
TEXT_BYTES = 80_000


class Brief(Transformer):
    """The Transformer on the first pages of its text."""

    def build(self) -> None:
        super().build()
        self.training, self.validation = self.training[:TEXT_BYTES], self.validation[:8_000]
        self.train_size = (len(self.training) - 1) // self.context - 1


def small(recipe: type[Transformer] = Brief, **parameters: Any) -> Transformer:
    return recipe(SMALL | parameters, device=CPU, seed=3)


def built(**parameters: Any) -> Transformer:
    recipe = small(**parameters)
    torch.manual_seed(0)
    recipe.build()
    recipe.model.eval()
    return recipe


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_it_reads_text_that_comes_with_python_and_repeats_no_paragraph():
    text = load_documentation()
    assert 300_000 < len(text) < 1_000_000
    paragraphs = bytes(text).decode().split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    sources = load_standard_library()
    assert len(sources) > 5_000_000
    assert b"class JSONDecoder" in bytes(sources)


def test_it_holds_out_a_tenth_of_either_text():
    for text, length in (("documentation", len(load_documentation())), ("sources", len(load_standard_library()))):
        recipe = Transformer(SMALL | {"text": text}, device=CPU, seed=0)
        recipe.build()
        assert len(recipe.training) + len(recipe.validation) == length
        assert 0.09 < len(recipe.validation) / length < 0.11


def test_it_is_published_under_its_name_and_refuses_what_cannot_be():
    assert load_recipe("transformer") is Transformer
    with pytest.raises(SpecError, match="text"):
        small(text="novels")
    with pytest.raises(SpecError, match="head_width"):
        small(head_width=7)


def test_it_sees_no_byte_before_its_turn():
    recipe = built()
    tokens = torch.randint(0, BYTES, (2, 32), generator=torch.Generator().manual_seed(1))
    # Before training, the first blocks contribute nothing: give them random weights.
    for weights in recipe.model.parameters():
        torch.nn.init.normal_(weights, std=0.3, generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % BYTES
    with torch.no_grad():
        before, after = recipe.model(tokens), recipe.model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_its_attention_depends_on_how_far_apart_two_bytes_stand():
    angles = rotary(16, 8)
    query, key = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(1)).unbind()
    turned = [rotated(each.expand(16, 8), (angles.cos(), angles.sin())) for each in (query, key)]
    products = turned[0] @ turned[1].T
    torch.testing.assert_close(products[3, 1], products[9, 7])
    assert not torch.isclose(products[3, 1], products[3, 2])


def test_it_ties_the_weights_that_read_and_write():
    recipe = built()
    names = [name for name, weights in recipe.model.named_parameters() if BYTES in weights.shape]
    assert names == ["embedding.weight"]


def test_it_begins_as_one_who_knows_nothing():
    recipe = built()
    with torch.no_grad():
        loss, _ = recipe.loss(next(recipe.train_batches(1, 0)))
    assert abs(float(loss) - math.log(BYTES)) < 0.7


def test_each_epoch_reads_every_stretch_once_and_cuts_the_text_elsewhere():
    recipe = built()
    text = bytes(recipe.training.tolist())
    offsets = []
    for epoch in (1, 2):
        inputs = torch.cat([inputs for inputs, _ in recipe.train_batches(epoch, 0)])
        assert inputs.shape == (recipe.train_size, recipe.context)
        rows = [bytes(row) for row in inputs.tolist()]
        # A row that the text contains twice may be found at the other place, but most rows are unique.
        ((offset, _),) = Counter(text.index(row) % recipe.context for row in rows).most_common(1)
        whole = range(offset, offset + recipe.train_size * recipe.context, recipe.context)
        assert sorted(rows) == sorted(text[start : start + recipe.context] for start in whole)
        offsets.append(offset)
    assert offsets[0] != offsets[1]


def test_it_predicts_the_byte_that_follows():
    recipe = built()
    inputs, targets = next(recipe.train_batches(1, 0))
    torch.testing.assert_close(inputs[:, 1:], targets[:, :-1])


def test_it_learns_and_tells_loss_perplexity_speed_and_a_sample():
    run = run_through(RememberingRun(), small(learning_rate=0.01))
    assert run.outcome == "finished"
    losses = [*run.series("train/loss").values()]
    assert losses[0] > 5
    # Predicting letters by their frequency gives about 3.1 nats; a lower loss requires the preceding text.
    assert run.epochs[2]["validation_loss"] < 2.9
    point = run.points[5]
    assert point["train/perplexity"] == pytest.approx(math.exp(point["train/loss"]), rel=1e-5)
    assert point["speed/tokens_per_second"] == pytest.approx(32 * point["speed/samples_per_second"])
    epoch = run.epochs[2]
    assert epoch["train_perplexity"] == pytest.approx(math.exp(epoch["train_loss"]))
    assert epoch["validation_perplexity"] == pytest.approx(math.exp(epoch["validation_loss"]))
    assert epoch["tokens_per_second"] == pytest.approx(32 * epoch["samples_per_second"])
    assert set(run.texts) == {(1, "sample"), (2, "sample")}
    assert all(text.startswith("The ") and len(text) > 10 for text in run.texts.values())


@cache
def uninterrupted() -> RememberingRun:
    """Return a complete training; called within a test, so that it uses as many threads as the others."""
    return run_through(RememberingRun(), small())


@pytest.mark.parametrize("stop_at", [7, 40])
def test_it_goes_on_from_any_step_as_if_it_had_not_stopped(tmp_path: Path, stop_at: int):
    whole = uninterrupted()
    assert whole.planned["steps_per_epoch"] == 40
    stopped = run_through(RememberingRun(made(tmp_path / "first"), stop_at=stop_at), small())
    assert stopped.outcome == "stopped"
    resumed = run_through(RememberingRun(made(tmp_path / "second")), small(), last_checkpoint(stopped))
    assert resumed.outcome == "finished"
    for name in ("train/loss", "optimizer/gradient_norm", "optimizer/learning_rate"):
        assert {**stopped.series(name), **resumed.series(name)} == whole.series(name)
    assert {**stopped.texts, **resumed.texts} == whole.texts
    assert resumed.epochs[2]["validation_loss"] == whole.epochs[2]["validation_loss"]


def test_its_samples_change_nothing_in_the_training():
    whole = uninterrupted()
    silent = run_through(RememberingRun(), small(sample_length=0))
    assert not silent.texts
    assert len(whole.texts) == 2
    assert silent.series("train/loss") == whole.series("train/loss")


def test_it_writes_the_same_sample_twice_and_longer_than_it_can_see():
    recipe = built(sample_length=50)
    with torch.no_grad():
        first, second = recipe.texts(), recipe.texts()
    assert first == second
    assert len(first["sample"]) > 32


def test_a_model_that_broke_says_so_instead_of_ending_the_training():
    recipe = built()
    torch.nn.init.constant_(recipe.model.norm.weight, math.nan)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        assert "no longer gives finite numbers" in recipe.texts()["sample"]


def test_it_begins_a_sample_without_a_prompt_with_a_new_line():
    recipe = built(prompt="")
    with torch.no_grad():
        assert recipe.texts()["sample"].startswith("\n")


def test_it_shows_broken_and_invisible_bytes_as_replaced():
    assert readable([65, 0, 9, 10, 0xFF, 0xC3, 0xA4, 27]) == "A\ufffd\t\n\ufffdä\ufffd"


def test_its_learning_rate_rises_then_falls_to_its_floor():
    fractions = [warmup_cosine(step, warmup=4, total=20, floor=0.1) for step in range(30)]
    assert fractions[:4] == [0.25, 0.5, 0.75, 1.0]
    assert fractions[4:20] == sorted(fractions[4:20], reverse=True)
    assert fractions[20:] == pytest.approx([0.1] * 10)
    assert warmup_cosine(0, warmup=0, total=1, floor=0.1) == 1.0
