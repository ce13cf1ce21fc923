"""`steersman.attach()` in a training process: what `log()` takes, and what it does outside a supervised run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter, deque
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs.series.storage import TIME_PREFIXES
from steersman.files.journal import LARGEST_RECORD_BYTES, JournalReader, JournalWriter, segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.records.alert_kinds import WatchRecord
from steersman.records.kinds import (
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    NoteRecord,
    OutcomeRecord,
    PatchRecord,
    PointRecord,
)
from steersman.records.posted import PostedCommand
from steersman.records.record import Record
from steersman.run import Run, worker_lock_path
from steersman.values.series_names import MEASURED
from tests.support.stack import ROOT


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


def records(folder: Path) -> list[Record]:
    return JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)


def script(folder: Path | None, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    if folder is not None:
        environment["STEERSMAN_ATTEMPT_FOLDER"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_it_takes_numbers_numpy_and_torch_values(run, tmp_path):
    import torch

    run.log(1, a=1, b=2.5, c=True, d=np.float32(0.5), e=np.array(7), f=torch.tensor(1.25), g=torch.tensor([3]))
    (record,) = records(tmp_path)
    assert record.values == {"a": 1, "b": 2.5, "c": 1, "d": 0.5, "e": 7, "f": 1.25, "g": 3}


def test_it_keeps_nan_and_infinities(run, tmp_path):
    run.log(1, a=math.nan, b=math.inf, c=-math.inf)
    (record,) = records(tmp_path)
    assert math.isnan(record.values["a"]) and record.values["b"] == math.inf and record.values["c"] == -math.inf


@pytest.mark.parametrize("value", ["text", None, [1, 2], np.zeros(3), {"nested": 1.0}])
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


def test_names_of_measured_series_are_kept_apart(run, tmp_path):
    for step in (1, 2):
        run.log(step, {"gpu/0/utilisation": 55.5, "host/cpu": 777.0, "gpus": 1.0})
    run.watch("gpu/mine", "min")
    found = records(tmp_path)
    own = {"own/gpu/0/utilisation": 55.5, "own/host/cpu": 777.0, "gpus": 1.0}
    assert [each.values for each in found if isinstance(each, PointRecord)] == [own, own]
    assert [each.text[:60] for each in found if isinstance(each, NoteRecord)] == [
        "Names that begin with gpu/ or host/ are those of measured va"
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
    """The first names get a function of their own: what does not fit it is logged all the same."""
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


class DeviceValue:
    """Stands for a CUDA tensor: reading it before its copy has arrived would make the loop wait."""

    is_cuda = True
    device = "cuda:0"

    def __init__(self, value: float, arrived: deque[bool]) -> None:
        self.value = value
        self.arrived = arrived
        self.copied = False

    def detach(self) -> DeviceValue:
        return self

    def to(self, device: str, non_blocking: bool) -> DeviceValue:
        assert device == "cpu" and non_blocking
        self.copied = True
        return self

    def __float__(self) -> float:
        assert self.copied and self.arrived and self.arrived[0], "a device value was read before its copy arrived"
        return self.value


@pytest.fixture
def cuda(monkeypatch) -> deque[bool]:
    """Stand in for torch.cuda: events have arrived once the returned deque holds True."""
    arrived: deque[bool] = deque([False], maxlen=1)

    class Event:
        def record(self, stream: Any) -> None: ...

        def query(self) -> bool:
            return arrived[0]

        def synchronize(self) -> None:
            arrived.append(True)

    class Cuda:
        Event: Any

        @staticmethod
        def current_stream(device: Any) -> None: ...

    Cuda.Event = Event
    fake = type(sys)("torch")
    fake.cuda = Cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    return arrived


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


def test_it_applies_a_stop_at_the_step_boundary_once(run, tmp_path):
    mailbox = Mailbox(tmp_path)
    run.log(7, loss=0.5)
    assert not run.stopping
    mailbox.post(PostedCommand(id="c1", command="stop", arguments={}))
    assert run.stopping
    assert run.stopping
    run.log(8, loss=0.5)
    mailbox.post(PostedCommand(id="c2", command="stop", arguments={}))
    assert run.stopping
    outcomes = [record for record in records(tmp_path) if isinstance(record, OutcomeRecord)]
    assert [(record.step, record.id) for record in outcomes] == [(7, "c1"), (8, "c2")]
    assert all(record.state == "applied" for record in outcomes)


def test_a_loop_that_logs_rarely_says_its_step_and_commands_are_done_there(run, tmp_path):
    mailbox = Mailbox(tmp_path)
    run.on("evaluate", lambda arguments: "0.5")
    mailbox.post(PostedCommand(id="at 145", command="evaluate", at_step=145))
    for step in range(1, 301):
        run.step = step
        if step % 100 == 0:
            run.log(step, loss=0.5)
        if step == 234:
            mailbox.post(PostedCommand(id="now", command="evaluate"))
        assert not run.stopping
        if step == 250:
            run.note("here")
    run.finish()
    found = records(tmp_path)
    outcomes = [(each.id, each.step) for each in found if isinstance(each, OutcomeRecord)]
    assert outcomes == [("at 145", 145), ("now", 234)]
    assert [each.step for each in found if isinstance(each, NoteRecord)] == [250]
    assert [each.step for each in found if isinstance(each, PointRecord)] == [100, 200, 300]


@pytest.mark.parametrize(("given", "kept"), [(np.int64(9), 9), (9.0, 9), (True, 1)])
def test_a_step_of_another_type_is_the_same_whole_number(run, tmp_path, given, kept):
    run.step = given
    run.note("here")
    assert [each.step for each in records(tmp_path)] == [kept]


@pytest.mark.parametrize("given", [2.5, "two", math.nan, 2**70, [1]])
def test_a_step_that_cannot_be_stored_is_the_last_one_that_could_with_one_note(run, tmp_path, given):
    run.step = 7
    run.note("before")
    for _ in range(2):
        run.step = given
        run.note("after")
        assert not run.stopping
    before, *notes, last = records(tmp_path)
    told = [each.text for each in (*notes, last) if each.text != "after"]
    assert {each.step for each in (before, *notes, last)} == {7}
    assert len(told) == 1 and told[0].startswith("run.step takes a ")


def test_it_refuses_a_command_that_it_does_not_know(run, tmp_path):
    Mailbox(tmp_path).post(PostedCommand(id="c2", command="dance", arguments={}))
    assert not run.stopping
    (outcome,) = records(tmp_path)
    assert outcome.state == "refused" and "dance" in outcome.reason


def test_it_logs_nowhere_outside_a_supervised_run_and_says_so_once():
    result = script(None, """
        import steersman
        run = steersman.attach()
        steersman.attach()
        run.log(1, loss=0.5)
        run.log_epoch(1, train_loss=0.5)
        run.plan(total_epochs=1)
        assert not run.stopping
        run.finish()
        import sys
        assert "torch" not in sys.modules and "django" not in sys.modules
    """)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("steersman:") == 1 and "nothing is logged" in result.stderr


def test_it_records_the_exception_that_ends_a_script(tmp_path):
    result = script(tmp_path, """
        import steersman
        run = steersman.attach()
        run.log(3, loss=0.5)
        raise RuntimeError("the data are gone")
    """)  # fmt: skip
    assert result.returncode == 1 and "the data are gone" in result.stderr
    end = records(tmp_path)[-1]
    assert isinstance(end, EndRecord) and end.step == 3
    assert end.outcome == "failed" and end.error == "RuntimeError: the data are gone"
    assert "Traceback" in end.traceback


def test_it_lets_only_one_process_of_a_training_log(tmp_path):
    result = script(tmp_path, """
        import steersman, subprocess, sys
        run = steersman.attach()
        run.log(1, loss=0.5)
        child = "import steersman; run = steersman.attach(); run.log(2, loss=0.5); print(run.supervised)"
        print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
    """)  # fmt: skip
    assert "False" in result.stdout
    assert [record.step for record in records(tmp_path) if isinstance(record, PointRecord)] == [1]


def test_it_keeps_a_late_worker_of_a_closed_attempt_from_training(tmp_path):
    (tmp_path / "closed").touch()
    result = script(tmp_path, "import steersman; steersman.attach(); print('trains')")
    assert result.returncode == 4
    assert "trains" not in result.stdout and "later attempt" in result.stderr


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
    """A configuration with an entry that nobody has filled, as some libraries have."""

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


def test_threads_that_log_at_once_lose_nothing_and_raise_no_alarm(run, tmp_path):
    def work(name: str) -> None:
        for step in range(2000):
            run.log(step, **{name: float(step)})

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = JournalReader(segment_path(tmp_path, 0, 0))
    found = reader.read(4 << 20, ended=True)
    assert len(found) == 8000 and reader.unreadable == 0


def test_signal_handlers_and_forked_processes_lose_nothing_and_raise_no_alarm(tmp_path):
    """What a handler logs comes within a call that has its number already; a child counts on from its parent's."""
    code = """
    import os, signal, steersman
    run = steersman.attach()
    signal.signal(signal.SIGALRM, lambda *_: run.log(0, handled=1.0))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for step in range(20_000):
        run.log(step, loss=0.5)
    signal.setitimer(signal.ITIMER_REAL, 0)
    child = os.fork()
    for step in range(500):
        run.log(step, **{"child" if child == 0 else "parent": 0.5})
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    result = script(tmp_path, code)
    assert result.returncode == 0, result.stderr
    reader = JournalReader(segment_path(tmp_path, 0, 0))
    found: list[Record] = []
    while not reader.is_exhausted:
        # Numbers that are missing may come for a second.
        found += reader.read(LARGEST_RECORD_BYTES + 1)
    names = Counter(name for each in found if isinstance(each, PointRecord) for name in each.values)
    assert (names["loss"], names["child"], names["parent"]) == (20_000, 500, 500) and names["handled"] > 0
    assert reader.unreadable == 0


def test_threads_that_log_while_a_segment_is_full_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("steersman.files.journal.LARGEST_SEGMENT_BYTES", 4096)
    writer = JournalWriter(tmp_path)
    others: set[int] = set()

    def work(name: str) -> None:
        append = writer.encoder((name,))
        for step in range(500):
            assert append(step, (0.5,))
            # What a script opens meanwhile must never get the number of the journal's file.
            with (tmp_path / f"own {name}").open("w") as own:
                others.add(own.fileno())

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paths = sorted(tmp_path.glob("journal-*.bin"))
    found = [each for path in paths for each in JournalReader(path).read(4 << 20, ended=True)]
    assert len(paths) > 2 and writer.dropped == 0 and writer.fd not in others
    assert sorted(each.number for each in found) == list(range(2000))


@pytest.mark.parametrize("supervised", [True, False])
def test_attach_after_finish_is_an_error_that_names_the_way(tmp_path, supervised):
    code = """
    import steersman
    for trial in range(2):
        run = steersman.attach()
        assert steersman.attach() is run
        run.log(1, loss=trial)
        run.finish()
    """
    result = script(tmp_path if supervised else None, code)
    assert result.returncode == 1 and "RuntimeError: steersman.attach() after run.finish()" in result.stderr
    assert "train --run-id N -- script.py" in result.stderr
    if supervised:
        assert types_told(tmp_path) == [PointRecord, EndRecord]


def types_told(folder: Path) -> list[type]:
    """Return the kinds of what a script told itself: `attach()` tells what it runs on."""
    return [type(each) for each in records(folder) if not isinstance(each, (EnvironmentRecord, PatchRecord))]


def test_a_second_process_of_an_attempt_is_told_that_both_make_one_run(tmp_path):
    for _ in range(2):
        assert script(tmp_path, "import steersman; steersman.attach().log(1, loss=0.5)").returncode == 0
    assert types_told(tmp_path) == [PointRecord, EndRecord]
    second = JournalReader(segment_path(tmp_path, 0, 1)).read(4 << 20, ended=True)
    note = second[0]
    assert isinstance(note, NoteRecord) and note.text.startswith("A second process logs this training")


# A run that nobody supervises


def test_an_unsupervised_run_takes_every_call_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERSMAN_START_PAUSED", "1")
    monkeypatch.setenv("STEERSMAN_UNADOPTED_S", "0")
    run = Run()
    knob = run.knob("rate", 0.5, minimum=0.0)
    run.begin_at(3, 1)
    run.plan(total_steps=10)
    run.expect_quiet(60)
    for step in range(4, 1000):
        run.log(step, loss=0.5)
        run.log(step, **{"train/loss": np.float32(0.5), "of": step})
        assert not run.stopping
    run.log_epoch(1, train_loss=0.5, best=True, nested=np.float64(2))
    run.log_text("sample", "text")
    run.note("here")
    run.record_environment({"torch": "2"})
    run.record_checkpoint(tmp_path / "c", step=1, epoch=1, name="c", size_bytes=1, sha256="0" * 64)
    run.finish()
    run._record_exception(ValueError, ValueError("its own"), None)
    run._record_exit()
    assert (run.supervised, run.folder, run.rank, run.ranks) == (False, None, 0, 1)
    assert knob.value == 0.5 and run.knobs == {"rate": {"": 0.5}}
    assert list(tmp_path.iterdir()) == []


def test_an_unsupervised_run_stops_and_does_what_is_requested_at_its_step_boundary():
    run = Run(rank=2)
    saved: list[Any] = []
    run.on("save_checkpoint", saved.append)
    run.request("save_checkpoint")
    assert saved == [] and not run.stopping and saved == [{}]
    run.request_stop()
    assert run.stopping and run.stopping and run.saves_on_stop


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda run: run.log(2.5, loss=1.0),
        lambda run: run.log(1, loss="low"),
        lambda run: run.log(1, loss=[0.5, 0.5]),
        lambda run: run.log_epoch("one", train_loss=0.5),
        lambda run: run.log_epoch(1, train_loss="low"),
        lambda run: run.plan(total_steps="many"),
        lambda run: run.record_environment("torch"),
        lambda run: run.record_checkpoint(None, step=1, epoch=1, name="c", size_bytes=1, sha256=""),
        lambda run: run.record_checkpoint("c", step=1, epoch=1, name="c", size_bytes=1, sha256="0" * 64, metrics=1),
        lambda run: run.begin_at("start"),
        lambda run: run.expect_quiet("long"),
        lambda run: run.log_text("sample", "text", step=2.5),
    ],
)
def test_a_wrong_value_is_noticed_before_the_script_is_supervised(call, first, capsys):
    run = Run()
    if not first:
        run.log(1, loss=0.5)
    for _ in range(2):
        call(run)
    told = capsys.readouterr().err.splitlines()
    assert len(told) in (1, 2) and all(line.startswith("steersman: ") for line in told)


@pytest.mark.parametrize(
    "call", [lambda run: run.log({"loss": 1.0}), lambda run: run.log(1, 0.5), lambda run: run.on("evaluate", None)]
)
def test_a_call_of_the_wrong_shape_is_refused_before_the_script_is_supervised(call):
    with pytest.raises(TypeError):
        call(Run())


def test_an_unsupervised_run_brings_nothing_from_a_gpu(cuda):
    run = Run()
    value = DeviceValue(0.5, cuda)
    for step in (1, 2):
        run.log(step, loss=value, accuracy=0.25)
        assert not run.stopping
    assert not value.copied
