"""What the README shows, done to the letter: its script and its recipe train, its settings exist."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from tests.support.stack import ROOT, Stack, create_run, run_row, wait_for

# The client of a training reads its own: it knows nothing of the portal's settings.
SETTINGS = (
    "monitor_site/settings.py",
    "monitor_site/environment/directory.py",
    "monitor_site/environment/sign_in.py",
    "steersman/run.py",
    "steersman/ranked_run.py",
)
TEXT = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    (found,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_its_script_is_watched_with_three_lines(offline_stack: Stack, tmp_path):
    code = block("my_script.py")
    assert len(re.findall(r"# [123]$", code, re.MULTILINE)) == 3
    (tmp_path / "my_script.py").write_text(code)
    run_id = create_run(offline_stack, "my script")
    arguments = ("train", "--run-id", str(run_id), "--", "my_script.py")
    done = offline_stack.manage(*arguments, cwd=tmp_path)
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"]) == ("finished", 1000)
    assert "Warning" not in done.stdout + done.stderr


def test_its_knob_is_turned_from_a_terminal(offline_stack: Stack, tmp_path):
    (tmp_path / "my_knob.py").write_text(block("my_knob.py"))
    run_id = str(create_run(offline_stack, "my knob"))
    training = offline_stack.train(int(run_id), "--quiet", "--", str(tmp_path / "my_knob.py"))
    wait_for(lambda: run_row(offline_stack, int(run_id))["step"] > 10, "the first steps")
    assert run_row(offline_stack, int(run_id))["state"] == "running", "slow enough to be watched"
    turn = re.findall(r"^python manage.py command N (set_knob .*?) --wait 10$", TEXT, re.MULTILINE)[0]
    offline_stack.manage("command", run_id, *shlex.split(turn), "--wait", "30")
    offline_stack.manage("command", run_id, "stop", "--wait", "30")
    assert training.wait(30) == 0
    knobs = json.loads(run_row(offline_stack, int(run_id))["knobs"])
    assert [(knob["name"], knob["value"]) for knob in knobs] == [("learning_rate", 0.01)]


def test_its_lines_hold_in_whatever_order_they_are_typed():
    assert not re.findall(r"(?:--run-id|manage\.py command) [0-9].*", TEXT)


def test_it_names_each_file_that_its_lines_need_and_says_where_it_goes_and_where_the_page_is():
    scripts = re.findall(r"^python manage\.py train .* -- (\w+\.py)\b", TEXT, re.MULTILINE)
    recipes = [f"{module}.py" for module in re.findall(r"--recipe (\w+):\w+", TEXT)]
    shown = re.findall(r"^```python\n# (\w+\.py)\n", TEXT, re.MULTILINE)
    assert sorted({*scripts, *recipes}) == sorted(shown)
    before = TEXT[: TEXT.index(f"# {shown[0]}")]
    assert "in the folder of the clone: save the files that follow there" in before and "`/runs/N/`" in before


def test_its_recipe_has_thirty_lines_and_learns(offline_stack: Stack, tmp_path):
    code = block("my_recipe.py")
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
    assert len(lines) <= 30
    (tmp_path / "my_recipe.py").write_text(code)
    command = ("create_run", "--quiet", "--project", "lab", "--recipe", "my_recipe:Sine", "--set", "epochs=20")
    run_id = int(offline_stack.manage(*command, cwd=tmp_path).stdout)
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", cwd=tmp_path)
    run = run_row(offline_stack, run_id)
    assert run["state"] == "finished" and run["best_metric_name"] == "validation_loss" and run["best_metric"] < 0.1


@pytest.mark.parametrize("name", re.findall(r"^\| `(STEERSMAN_\w+)`", TEXT, re.MULTILINE))
def test_its_settings_exist(name):
    assert any(name in (ROOT / path).read_text() for path in SETTINGS)


def test_it_names_every_setting():
    read = [ROOT / "monitor_site" / "settings.py", *(ROOT / "monitor_site" / "environment").glob("*.py")]
    settings = {name for path in read for name in re.findall(r'"(STEERSMAN_\w+)"', path.read_text())}
    internal = {"STEERSMAN_LAYER_PREFIX", "STEERSMAN_DEBUG"}
    assert settings - internal <= set(re.findall(r"`(STEERSMAN_\w+)`", TEXT))
