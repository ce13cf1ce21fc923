"""`attach()` among processes, threads and signal handlers: which of them may log, and that nothing is lost."""

from __future__ import annotations

import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest

from steersman.files.journal import LARGEST_RECORD_BYTES, JournalReader, JournalWriter, segment_path
from steersman.records.kinds import (
    EndRecord,
    EnvironmentRecord,
    NoteRecord,
    PatchRecord,
    PointRecord,
)
from steersman.records.record import Record
from tests.steersman.client.running import records, script
from tests.support.stack import ROOT


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
    """A handler logs during a call that has its number already; a child continues its parent's count."""
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
        # Missing numbers may arrive for up to a second.
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
            # A file that the script opens meanwhile must never get the descriptor of the journal.
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
    assert result.returncode == 1 and "RuntimeError: steersman.attach() was called after run.finish()" in result.stderr
    assert "start one process per trial with steersman run -- python script.py" in result.stderr
    if supervised:
        assert types_told(tmp_path) == [PointRecord, EndRecord]


def test_threads_that_attach_at_once_get_one_run_also_if_one_forks_meanwhile(tmp_path):
    result = script(tmp_path, """
        import os, steersman, subprocess, threading, time
        # Git is asked while the first attaches: the others come meanwhile, and a child is forked.
        runs, asked, forked, real = [], threading.Event(), threading.Event(), subprocess.run
        def slow(*arguments, **named):
            asked.set()
            assert forked.wait(50)
            return real(*arguments, **named)
        subprocess.run = slow
        threads = [threading.Thread(target=lambda: runs.append(steersman.attach())) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert asked.wait(50)
        child = os.fork()
        if not child:
            os._exit(7 if not steersman.attach().supervised else 1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        forked.set()
        for thread in threads:
            thread.join()
        for run in runs:
            run.log(1, loss=0.5)
        print(len({id(run) for run in runs}), ended)
    """)  # fmt: skip
    assert result.stdout.split() == ["1", "7"], result.stderr
    assert types_told(tmp_path) == [PointRecord] * 4 + [EndRecord]


def test_what_holds_the_run_and_a_knob_can_be_copied_and_sent_to_another_process(tmp_path):
    """Averaged models are deep copies, and spawned workers receive their data set pickled."""
    (tmp_path / "holding.py").write_text(textwrap.dedent("""
        class Model:
            def __init__(self, run):
                self.run = run
                self.rate = run.knob("rate", 0.5, apply=lambda value: None)

        def look(model, answers):
            answers.put((model.run.supervised, model.rate.value))
    """))  # fmt: skip
    code = """
        import copy, multiprocessing, pickle, steersman
        from holding import Model, look
        run = steersman.attach()
        model = Model(run)
        for of in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
            assert of(model).run is run
        for of in (copy.copy, copy.deepcopy):
            assert of(model).rate is of(model.rate) is model.rate
        spawn = multiprocessing.get_context("spawn")
        answers = spawn.SimpleQueue()
        worker = spawn.Process(target=look, args=(model, answers))
        worker.start()
        print(answers.get())
        worker.join()
        run.finish()
        assert copy.deepcopy(model).run is pickle.loads(pickle.dumps(run)) is run
    """
    result = script(tmp_path, code, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert result.stdout == "(False, 0.5)\n", result.stderr


def types_told(folder: Path) -> list[type]:
    """Return the types of the records that the script wrote, without the one about its environment from `attach()`."""
    return [type(each) for each in records(folder) if not isinstance(each, (EnvironmentRecord, PatchRecord))]


def test_a_second_process_of_an_attempt_is_told_that_both_make_one_run(tmp_path):
    for _ in range(2):
        assert script(tmp_path, "import steersman; steersman.attach().log(1, loss=0.5)").returncode == 0
    assert types_told(tmp_path) == [PointRecord, EndRecord]
    second = JournalReader(segment_path(tmp_path, 0, 1)).read(4 << 20, ended=True)
    note = second[0]
    assert isinstance(note, NoteRecord) and note.text.startswith("A second process logs to this run")
