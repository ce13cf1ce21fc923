"""The labelled curves of `bench/detectors.py`: enough of them, most kinds of fault recorded, in a small file."""

from __future__ import annotations

from collections import Counter

from bench.support.curve_files import HEALTHY, RECORDED, read_curves, write_curves
from bench.support.curve_stories import stories
from bench.support.generated_curves import generated


def test_there_are_two_hundred_each_with_its_label():
    curves = [*read_curves(), *generated()]
    assert len(curves) == len({curve.name for curve in curves}) == 200
    assert all((curve.begins is None) == (curve.kind == HEALTHY) for curve in curves)
    assert Counter(curve.kind for curve in curves)[HEALTHY] >= 60


def test_the_recorded_ones_are_what_the_script_tells():
    curves = read_curves()
    assert [(curve.name, curve.kind) for curve in curves] == [(story.name, story.kind) for story in stories()]
    assert len(curves) >= 60 and RECORDED.stat().st_size < 1_500_000
    assert all(curve.length <= 1200 for curve in curves)


def test_a_file_holds_what_was_written(tmp_path):
    curves = read_curves()[:3]
    write_curves(curves, tmp_path / "curves.jsonl.gz")
    assert read_curves(tmp_path / "curves.jsonl.gz") == curves
