"""The values that `log()` and `log_epoch()` accept, and the cost of a value that cannot be stored."""

from __future__ import annotations

import math
import sys
import weakref
from enum import Enum, StrEnum
from typing import Any

import numpy as np
import pytest

from runs.series.storage import TIME_PREFIXES
from steersman.records.alert_kinds import WatchRecord
from steersman.records.kinds import (
    EndRecord,
    EpochRecord,
    NoteRecord,
    PointRecord,
)
from steersman.values.series_names import MEASURED
from tests.steersman.client.running import DeviceValue, records


def test_it_takes_numbers_numpy_and_torch_values(run, tmp_path):
    import torch

    run.log(1, a=1, b=2.5, c=True, d=np.float32(0.5), e=np.array(7), f=torch.tensor(1.25), g=torch.tensor([3]))
    (record,) = records(tmp_path)
    assert record.values == {"a": 1, "b": 2.5, "c": 1, "d": 0.5, "e": 7, "f": 1.25, "g": 3}


def test_it_keeps_nan_and_infinities(run, tmp_path):
    run.log(1, a=math.nan, b=math.inf, c=-math.inf)
    (record,) = records(tmp_path)
    assert math.isnan(record.values["a"]) and record.values["b"] == math.inf and record.values["c"] == -math.inf


@pytest.mark.parametrize("value", ["text", None, [1, 2], np.zeros(3), {"nested": 1.0}, np.ma.masked])
def test_a_value_that_is_no_number_costs_itself_and_one_note(run, tmp_path, value):
    for step in (1, 2):
        run.log(step, accuracy=0.5, loss=value)
    run.log(3, loss=value)
    run.log(4, accuracy=0.5, loss=0.25)
    first, *found = records(tmp_path)
    assert isinstance(first, PointRecord) and first.values == {"accuracy": 0.5}
    (note,) = [each.text for each in found if isinstance(each, NoteRecord)]
    assert "log(loss=…) takes one number" in note and note.endswith("it was left out.")
    points = [(each.step, each.values) for each in found if isinstance(each, PointRecord)]
    assert points == [(2, {"accuracy": 0.5}), (4, {"accuracy": 0.5, "loss": 0.25})]


def test_a_step_that_is_no_whole_number_costs_its_point_and_one_note(run, tmp_path):
    run.log(1, loss=1)
    for step in ("two", 2.5, 2.75, math.nan, None):
        run.log(step, loss=1)
    run.log(np.int64(4), loss=2)
    found = records(tmp_path)
    assert [record.step for record in found if isinstance(record, PointRecord)] == [1, 4]
    (note,) = [each.text for each in found if isinstance(each, NoteRecord)]
    assert note == "log(step=…) takes a whole number, not 'two': its values were left out."


def test_values_may_be_given_as_one_dictionary_and_a_step_without_any_is_the_present_one(run, tmp_path):
    run.log(1, {"train/loss": 0.5, "loss": 1.0}, accuracy=0.25)
    run.log(2, {"loss": 0.5})
    run.log(3, {})
    run.note("here")
    run.log(4)
    run.note("there")
    found = records(tmp_path)
    assert [each.values for each in found if isinstance(each, PointRecord)] == [
        {"train/loss": 0.5, "loss": 1.0, "accuracy": 0.25},
        {"loss": 0.5},
    ]
    assert [each.step for each in found if isinstance(each, NoteRecord)] == [3, 4]


def test_values_of_an_epoch_may_be_given_as_one_dictionary(run, tmp_path):
    run.log_epoch(1, {"train_loss": 0.5, "step": 3.0, "best": 0.25}, accuracy=0.75, step=7, best=True)
    run.log_epoch(2, {})
    epochs = [(each.epoch, each.step, each.best, each.values) for each in records(tmp_path)]
    values = {"train_loss": 0.5, "step": 3.0, "best": 0.25, "accuracy": 0.75}
    assert epochs == [(1, 7, True, values), (2, 0, False, {})]


def test_names_of_measured_series_are_kept_apart(run, tmp_path):
    for step in (1, 2):
        run.log(step, {"gpu/0/utilisation": 55.5, "host/cpu": 777.0, "gpus": 1.0})
    run.watch("gpu/mine", "min")
    found = records(tmp_path)
    own = {"own/gpu/0/utilisation": 55.5, "own/host/cpu": 777.0, "gpus": 1.0}
    assert [each.values for each in found if isinstance(each, PointRecord)] == [own, own]
    assert [each.text[:60] for each in found if isinstance(each, NoteRecord)] == [
        "Names that begin with gpu/ or host/ are reserved for measure"
    ]
    assert [each.name for each in found if isinstance(each, WatchRecord)] == ["own/gpu/mine"]
    assert MEASURED == TIME_PREFIXES


def test_an_epoch_keeps_what_is_called_as_its_own_arguments(run, tmp_path):
    run.log_epoch(1, loss=0.5, best=0.75, step=0.5, epoch=1.0)
    run.log_epoch(2, loss="low", accuracy=0.5, best="best", step=7)
    run.log_epoch("three", loss=0.5)
    found = records(tmp_path)
    epochs = [(each.epoch, each.step, each.best, each.values) for each in found if isinstance(each, EpochRecord)]
    assert epochs == [
        (1, 0, False, {"loss": 0.5, "best": 0.75, "step": 0.5, "epoch": 1.0}),
        (2, 7, False, {"accuracy": 0.5}),
    ]
    notes = [each.text for each in found if isinstance(each, NoteRecord)]
    assert [note.split(" takes")[0] for note in notes] == [
        "log_epoch(loss=…)", "log_epoch(best=…)", "log_epoch(epoch=…)"
    ]  # fmt: skip


def test_it_takes_other_names_fewer_names_and_other_types_after_the_first_call(run, tmp_path):
    """The first set of names gets a specialised function; other calls are logged all the same."""
    logged = [
        {"loss": 0.5, "step": 1.0},
        {"loss": 0.25, "step": 2.0},
        {"loss": 0.125},
        {"loss": 1, "step": 2},
        {"step": 0.5, "loss": 0.75},
        {"loss": 0.5, "step": 1.0, "train/loss": 0.25},
        {"loss": np.float64(0.5), "step": 1.5},
        {"train/loss": 0.5},
        {"loss": 0.0625, "step": 3.0},
    ]
    for number, values in enumerate(logged, start=1):
        run.log(number, **values)
    assert [(record.step, record.values) for record in records(tmp_path)] == list(enumerate(logged, start=1))
    assert [record.number for record in records(tmp_path)] == list(range(len(logged)))


def test_it_writes_a_device_value_only_once_its_copy_has_arrived(run, tmp_path, cuda):
    run.log(1, loss=DeviceValue(0.5, cuda), accuracy=0.25)
    run.log(2, other=1.0)
    assert [record.step for record in records(tmp_path)] == [2]
    cuda.append(True)
    assert not run.stopping
    assert [(record.step, record.values) for record in records(tmp_path)][1] == (1, {"loss": 0.5, "accuracy": 0.25})


def test_it_writes_device_values_that_are_still_under_way_at_the_end(run, tmp_path, cuda):
    run.log(1, loss=DeviceValue(0.5, cuda))
    run.finish()
    assert [type(record) for record in records(tmp_path)] == [PointRecord, EndRecord]


@pytest.mark.parametrize("count", [5_000, 25_000])
def test_more_names_than_a_record_holds_become_several_records_of_the_step(run, tmp_path, count):
    values = {f"layer.{number}.weight_norm": float(number) for number in range(count)}
    for step in (1, 2):
        run.log(step, **values)
    run.log(3, **(values | {"layer.7.weight_norm": 1}))
    found = records(tmp_path)
    for step in (1, 2, 3):
        logged: dict[str, float] = {}
        for record in found:
            if record.step == step:
                logged |= record.values
        assert logged == values | ({"layer.7.weight_norm": 1.0} if step == 3 else {})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda run: run.log({"loss": 1.0}), r"run\.log\(step, values\)"),
        (lambda run: run.log({"loss": 1.0}, 1), r"run\.log\(step, values\)"),
        (lambda run: run.log(1, {"loss": 1.0}, {}), r"run\.log\(step, loss=loss\)"),
        (lambda run: run.log(1, 0.5), r"run\.log\(step, loss=loss\)"),
        (lambda run: run.log(loss=0.5), r"run\.log\(step, loss=loss\)"),
        (lambda run: run.log_epoch({"loss": 1.0}), r"run\.log_epoch\(epoch, values\)"),
        (lambda run: run.log_epoch(1, 0.5), r"run\.log_epoch\(epoch, validation_loss=loss\)"),
        (lambda run: run.log_epoch(epoch=1, loss=0.5), r"run\.log_epoch\(epoch, validation_loss=loss\)"),
        (lambda run: run.log_epoch(), r"run\.log_epoch\(epoch, validation_loss=loss\)"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_wrong_call_says_the_right_one(run, tmp_path, call, sentence, first):
    if not first:
        run.log(1, loss=0.5)
    with pytest.raises(TypeError, match=sentence):
        call(run)
    assert len(records(tmp_path)) == (0 if first else 1)


@pytest.mark.parametrize("name", ["type", "float", "int", "self", "ﬁ", "match", "__class__", "print", "None"])
def test_a_metric_may_have_any_name_of_python(run, tmp_path, name):
    for step in (1, 2):
        run.log(step, **{name: 0.5, "fi": 1.0})
    assert [record.values for record in records(tmp_path)] == [{name: 0.5, "fi": 1.0}] * 2


class Unread(dict[str, Any]):
    """A configuration with a missing entry, as some libraries have."""

    def __getitem__(self, name: str) -> Any:
        if name == "missing":
            raise LookupError("missing value")
        return super().__getitem__(name)


def test_an_entry_that_cannot_be_read_costs_itself(run, tmp_path):
    run.record_environment(Unread(torch="2", missing=1, inner=Unread(missing=2, seed=7)))
    (record,) = records(tmp_path)
    unread = "could not be read: LookupError"
    assert record.environment == {"torch": "2", "missing": unread, "inner": {"missing": unread, "seed": 7}}


class Metric(StrEnum):
    LOSS = "loss"


class OldMetric(str, Enum):  # noqa: UP042  as many scripts have it
    LOSS = "loss"


@pytest.mark.parametrize("name", [Metric.LOSS, OldMetric.LOSS])
def test_a_name_of_an_enumeration_is_its_text_whichever_comes_first(run, tmp_path, name):
    run.log(1, **{name: 1.0})
    run.log(2, loss=2.0)
    assert [record.values for record in records(tmp_path)] == [{"loss": 1.0}, {"loss": 2.0}]


def test_a_value_whose_object_is_gone_is_named(run, tmp_path):
    class Value:
        pass

    value = Value()
    proxy = weakref.proxy(value)
    del value
    run.log(1, loss=proxy)
    run.log(proxy, loss=1.0)
    found = [each.text for each in records(tmp_path) if isinstance(each, NoteRecord)]
    assert len(found) == 2 and all("log(" in text and "left out" in text for text in found)


@pytest.mark.parametrize("at_end", [True, False])
def test_a_gpu_that_failed_costs_its_points_and_not_the_last_word(run, tmp_path, cuda, at_end):
    def fail(self: Any) -> bool:
        raise RuntimeError("CUDA error: device-side assert triggered")

    event = sys.modules["torch"].cuda.Event
    run.log(1, loss=DeviceValue(0.5, cuda))
    event.query = event.synchronize = fail
    if not at_end:
        run.log(2, loss=0.25)
    error = ValueError("the training's own")
    run._record_exception(ValueError, error, None)
    found = records(tmp_path)
    assert isinstance(found[-1], EndRecord) and found[-1].error == "ValueError: the training's own"
    assert any("1 points could not be read from the GPU" in getattr(each, "text", "") for each in found)
    assert [each.step for each in found if isinstance(each, PointRecord)] == ([] if at_end else [2])
