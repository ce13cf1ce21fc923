"""The worker's console as a growing file, and the text that is removed before it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.agent.journals import console, consoles
from steersman.agent.journals.console import ConsoleTail
from steersman.agent.journals.consoles import Consoles, ConsolesRead
from steersman.messages.reports import ConsoleText, Report
from steersman.wire.codec import encode
from steersman.wire.framing import LARGEST_MESSAGE_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def take(tail: ConsoleTail, ended: bool = False) -> list[str]:
    read = tail.read(ended)
    tail.advance(read)
    return read.lines


def test_it_reads_whole_lines_once(path):
    tail = ConsoleTail(path)
    assert take(tail) == []
    path.write_text("one\ntwo\nthr")
    assert take(tail) == ["one", "two"]
    assert take(tail) == []
    path.write_text("one\ntwo\nthree\n")
    assert take(tail) == ["three"]


def test_it_shows_a_last_line_without_end_once_the_worker_has_ended(path):
    path.write_text("giving up")
    assert take(ConsoleTail(path), ended=True) == ["giving up"]


def test_it_folds_carriage_returns_and_drops_colours(path):
    path.write_bytes(b" 10%\r 50%\r100%\n\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07plain\xff\n")
    assert take(ConsoleTail(path)) == ["100%", "red", "plain\ufffd"]


def test_it_skips_what_is_beyond_the_bound_and_says_how_much(path, monkeypatch):
    monkeypatch.setattr(console, "LARGEST_BURST_BYTES", 1000)
    tail = ConsoleTail(path)
    path.write_bytes(b"x" * 99 + b"\n" + b"y" * 2899 + b"\n" + b"z" * 899 + b"\n")
    read = tail.read()
    assert read.skipped_bytes == 3000
    assert read.lines == ["z" * 899] and read.offset == 3900


def test_it_says_how_much_of_a_long_line_is_missing(path):
    path.write_text("x" * 5000 + "\n")
    assert take(ConsoleTail(path)) == ["x" * 2000 + " … (3000 more characters)"]


def test_it_goes_on_from_an_offset(path):
    path.write_text("one\ntwo\n")
    assert take(ConsoleTail(path, offset=4)) == ["two"]


def test_it_finds_the_last_line_with_text(path):
    path.write_text("first\nlast words\n\n   \n")
    assert ConsoleTail(path).last_line() == "last words"


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(console, "UNFINISHED_AFTER_S", 0.0)
    monkeypatch.setattr(consoles, "UNFINISHED_EVERY_S", 0.0)


def told(read: Consoles, ended: bool = False) -> ConsolesRead | None:
    found = read.read(ended)
    if found is not None:
        read.advance(found)
    return found


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_bar_that_never_rests_is_told_each_time_it_moves(path, at_once):
    all_consoles = Consoles(path.parent, {0: 0})
    seen = []
    for percent in range(0, 100, 10):
        append(path, f"\r{percent}%|".encode())
        read = told(all_consoles)
        assert read is not None and read.lines == []
        seen.append(read.unfinished)
    assert seen == [[f"{percent}%|"] for percent in range(0, 100, 10)]
    assert told(all_consoles) is None
    append(path, b"\r100%|\ndone\n")
    read = told(all_consoles)
    assert read is not None and read.lines == ["100%|", "done"] and read.unfinished == []


def test_what_a_bar_wrote_over_is_read_but_once(path, at_once):
    all_consoles = Consoles(path.parent, {0: 0})
    append(path, b"\r".join(b"%06d" % number for number in range(1000)))
    read = told(all_consoles)
    assert read is not None and read.unfinished == ["000999"]
    assert read.offsets == {0: path.stat().st_size - len("000999")}


def test_a_line_without_end_is_whole_once_it_has_one(path, at_once):
    all_consoles = Consoles(path.parent, {0: 0})
    append(path, b"Downloading")
    assert (read := told(all_consoles)) and (read.lines, read.unfinished) == ([], ["Downloading"])
    append(path, b": done\nLoading")
    assert (read := told(all_consoles)) and (read.lines, read.unfinished) == (["Downloading: done"], ["Loading"])


def test_the_next_supervisor_tells_what_has_no_end(path, at_once):
    append(path, b"first\n50%|")
    before = Consoles(path.parent, {0: 0})
    read = told(before)
    assert read is not None and (read.lines, read.unfinished) == (["first"], ["50%|"])
    after = Consoles(path.parent, read.offsets)
    assert (read := told(after, ended=True)) and (read.lines, read.unfinished) == (["50%|"], [])


def test_lines_without_end_of_several_ranks_are_marked(path, at_once):
    append(path, b"zero")
    append(path.parent / "console-0001.log", b"one")
    read = told(Consoles(path.parent, {0: 0, 1: 0}))
    assert read is not None and read.unfinished == ["[0] zero", "[1] one"]


def test_the_consoles_of_many_ranks_fit_into_one_report(path):
    for rank in range(64):
        append(consoles.console_path(path.parent, rank), b"\n" * (1 << 20))
    read = told(Consoles(path.parent, dict.fromkeys(range(64), 0)))
    assert read is not None
    sizes = {rank: each.offset - each.skipped_bytes for rank, each in read.reads.items()}
    assert sizes[0] == 1 << 20 and min(sizes.values()) > 1 << 14
    # Each line gets the mark of its rank.
    report = Report(1, 1, {}, {}, [], console=ConsoleText(read.lines, read.skipped_bytes, read.offsets))
    assert len(encode(report)) < LARGEST_MESSAGE_BYTES * 3 / 4


def test_the_next_supervisor_clears_a_line_without_end_that_stood_at_the_beginning(path, at_once):
    append(path, b"Downloading")
    before = Consoles(path.parent, {0: 0})
    read = told(before)
    assert read is not None and (read.unfinished, read.offsets.get(0, 0)) == (["Downloading"], 0)
    after = Consoles(path.parent, {0: 0})
    assert (read := told(after, ended=True)) and (read.lines, read.unfinished) == (["Downloading"], [])
