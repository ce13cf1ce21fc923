"""The worker's console as a growing file, and what is taken out of it before it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.agent.journals import console
from steersman.agent.journals.console import ConsoleTail


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
