"""Follow the instructions for newcomers exactly: README, tutorial, and the first recipe."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.documents.reading import saved_file, saved_files, text_of
from tests.support.stack import Stack, create_run, run_row, wait_for

README = text_of("README.md")
TUTORIAL = text_of("docs/tutorial.md")
RECIPES = text_of("docs/recipes.md")
OF_NEWCOMERS = {"README.md": README, "docs/tutorial.md": TUTORIAL}


def test_the_readme_is_short():
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
@pytest.mark.parametrize("target", ["demo", "serve", "test"])
def test_the_readme_shows_the_targets_of_make(name: str, target: str):
    assert re.search(rf"^make {target} +# ", text_of(name), re.MULTILINE)


def test_the_script_of_the_readme_is_watched_with_three_lines(offline_stack: Stack, tmp_path: Path):
    code = saved_file(README, "my_script.py")
    assert len(re.findall(r"# [123]$", code, re.MULTILINE)) == 3
    (tmp_path / "my_script.py").write_text(code)
    run_id = create_run(offline_stack, "my script")
    arguments = ("train", "--run-id", str(run_id), "--", "my_script.py")
    done = offline_stack.manage(*arguments, cwd=tmp_path)
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"]) == ("finished", 1000)
    assert "Warning" not in done.stdout + done.stderr


def test_the_knob_of_the_tutorial_is_changed_from_a_terminal(offline_stack: Stack, tmp_path: Path):
    (tmp_path / "my_knob.py").write_text(saved_file(TUTORIAL, "my_knob.py"))
    run_id = str(create_run(offline_stack, "my knob"))
    training = offline_stack.train(int(run_id), "--quiet", "--", str(tmp_path / "my_knob.py"))
    wait_for(lambda: run_row(offline_stack, int(run_id))["step"] > 10, "the first steps")
    assert run_row(offline_stack, int(run_id))["state"] == "running", "slow enough to be watched"
    typed = re.findall(r"^python manage\.py command N (.*)$", TUTORIAL, re.MULTILINE)
    assert [line.split()[0] for line in typed] == ["set_knob", "note", "--list", "stop"]
    for line in typed:
        offline_stack.manage("command", run_id, *shlex.split(line.replace("--wait 10", "--wait 30")))
    assert training.wait(60) == 0
    knobs = json.loads(run_row(offline_stack, int(run_id))["knobs"])
    assert [(knob["name"], knob["value"]) for knob in knobs] == [("learning_rate", 0.01)]


def test_the_readme_and_the_tutorial_change_the_same_knob():
    changes = [
        re.findall(r"^python manage\.py command N set_knob .*$", text, re.MULTILINE) for text in (README, TUTORIAL)
    ]
    declared = re.findall(r"^rate = run\.knob\(.*$", README, re.MULTILINE)
    assert changes[0] == changes[1] and declared and declared[0] in TUTORIAL


@pytest.mark.parametrize("text", [README, TUTORIAL, RECIPES], ids=["README", "tutorial", "recipes"])
def test_the_lines_hold_in_whatever_order_they_are_typed(text: str):
    assert not re.findall(r"(?:--run-id|manage\.py command) [0-9].*", text)


@pytest.mark.parametrize("name", OF_NEWCOMERS)
def test_each_file_that_the_lines_need_is_shown_with_its_place_and_the_address_of_its_page(name: str):
    text = OF_NEWCOMERS[name]
    scripts = re.findall(r"^python manage\.py train .* -- (\w+\.py)\b", text, re.MULTILINE)
    assert scripts and sorted(scripts) == sorted(saved_files(text))
    before = text[: text.index(f"# {scripts[0]}")]
    assert "second terminal in the root folder of the repository" in before and "ave this file there" in before
    assert "`/runs/N/`" in text


def test_the_first_recipe_has_thirty_lines_and_learns(offline_stack: Stack, tmp_path: Path):
    code = saved_file(RECIPES, "my_recipe.py")
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
    assert len(lines) <= 30
    assert "Save this file in the root folder of the repository" in RECIPES[: RECIPES.index(code)]
    (tmp_path / "my_recipe.py").write_text(code)
    (typed,) = re.findall(
        r"^python manage\.py create_run --project demo (--recipe my_recipe:.*)$", RECIPES, re.MULTILINE
    )
    command = ("create_run", "--quiet", "--project", "lab", *shlex.split(typed))
    run_id = int(offline_stack.manage(*command, cwd=tmp_path).stdout)
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", cwd=tmp_path)
    run = run_row(offline_stack, run_id)
    assert run["state"] == "finished" and run["best_metric_name"] == "validation_loss" and run["best_metric"] < 0.1
