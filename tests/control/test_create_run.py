"""`manage.py recipes` and `manage.py create_run`: rows for recipes, runs from rows, messages for mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from runs.models import Membership, Project, Recipe, Role, Run, RunState
from steersman.spec import ValueSpec
from tests.support.stack import Stack
from trainer.control.publish import is_published, publish
from trainer.management.commands import create_run
from trainer.recipe_names import source_sha256

ROOT = Path(__file__).parents[2]
MINE = """
from trainer.worker.recipe import parameter
from trainer.recipes.digits import Digits

class Mine(Digits):
    '''Digits of my own.'''
    title = "Mine"
    size: int = parameter(3, minimum=1, maximum=9, help="how large")
"""


def create(*arguments: str) -> int:
    out = StringIO()
    call_command("create_run", "--quiet", *arguments, stdout=out)
    return int(out.getvalue())


def refusal(command: str, *arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(command, *arguments, stdout=StringIO())
    assert caught.value.returncode == 2
    return str(caught.value)


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(name="Vision", slug="vision")


@pytest.fixture
def digits(db: None) -> Recipe:
    """The published row of the quick recipe, as set-up leaves it."""
    return publish("digits")


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Publish within this process, because another process would not see the test's database. Returns the requests."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[2:])
        try:
            call_command(*command[2:], stdout=StringIO())
        except CommandError as error:
            return subprocess.CompletedProcess(command, error.returncode, "", f"CommandError: {error}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(create_run.subprocess, "run", run)
    return asked


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Return a function that writes a module to the person's working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    # For two versions within a second, Python would use the old byte code.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: set[str] = set()

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        written.add(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_it_records_a_run_with_every_parameter_of_its_recipe(project: Project, digits: Recipe) -> None:
    User.objects.create_user("olga")
    run_id = create(
        *("--project", "vision", "--recipe", "digits", "--name", "First", "--set", "epochs=7", "--set", "hidden=9"),
        *("--device", "cuda:1", "--seed", "5", "--deterministic", "--user", "olga", "--start-paused"),
    )
    run = Run.objects.get(pk=run_id)
    assert (run.name, run.project, run.recipe, run.state) == ("First", project, digits, RunState.CREATED)
    assert (run.device, run.seed, run.deterministic, run.start_paused) == ("cuda:1", 5, True, True)
    assert run.created_by is not None and run.created_by.username == "olga"
    assert run.parameters["epochs"] == 7
    assert run.parameters["hidden"] == 9
    assert set(run.parameters) == {entry["name"] for entry in digits.parameters}


def test_it_gives_a_run_tags(project: Project) -> None:
    run = Run.objects.get(pk=create("--project", "vision", "--tag", "Baseline", "--tag", "sweep  3"))
    assert [tag.name for tag in run.tags.all()] == ["baseline", "sweep 3"]
    assert "tag: “a,b” is not a valid tag" in refusal("create_run", "--project", "vision", "--tag", "a,b")


def test_it_records_a_run_for_a_persons_own_script(project: Project) -> None:
    run = Run.objects.get(pk=create("--project", "vision"))
    assert run.recipe is None
    assert run.parameters == {}
    assert run.name == "script"
    assert run.ranks == 1


def test_it_records_how_many_processes_train(project: Project) -> None:
    assert Run.objects.get(pk=create("--project", "vision", "--nproc", "4")).ranks == 4


def test_it_makes_the_project_when_asked_and_its_user_the_owner(db: None) -> None:
    olga = User.objects.create_user("olga")
    create("--project", "new", "--create-project", "--user", "olga")
    create("--project", "new", "--create-project")
    membership = Membership.objects.get()
    assert (membership.project.slug, membership.user, membership.role) == ("new", olga, Role.OWNER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "digits", "--set", "epochs=0"], ["epochs takes a whole number from 1 to 100000, not 0."]),
        (["--recipe", "digits", "--set", "epochs=ten"], ["epochs takes a whole number from 1 to 100000, not 'ten'."]),
        (["--recipe", "digits", "--set", "precision=half"], ["precision takes one of auto, float32, float16,"]),
        (["--recipe", "digits", "--set", "hiden=3"], ["hiden", "choose one of:", "hidden"]),
        (["--recipe", "digits", "--set", "epochs"], ["set: 'epochs'", "--set name=value"]),
        (["--set", "epochs=3"], ["set: parameters (epochs) need a recipe", "--recipe"]),
        (["--device", "gpu"], ["device: 'gpu'", "auto, cpu, cuda or cuda:N"]),
        (["--seed", "-1"], ["seed takes a whole number from 0 to 2147483647, not -1."]),
        (["--user", "nobody"], ["user: there is no user 'nobody'", "createsuperuser"]),
        (["--name", "n" * 121], ["name:", "120"]),
        (["--project", "visoin"], ["project: there is no project 'visoin'", "choose one of: vision"]),
        (["--project", "a b", "--create-project"], ["project: 'a b'", "letters, digits"]),
    ],
)
def test_it_refuses_with_the_field_what_it_takes_and_the_remedy(
    project: Project, digits: Recipe, arguments: list[str], words: list[str]
) -> None:
    said = refusal("create_run", "--project", "vision", *arguments)
    assert [word for word in words if word not in said] == []
    assert Run.objects.count() == 0
    assert Project.objects.count() == 1


def test_it_publishes_a_recipe_that_is_not_yet_and_again_only_when_its_source_changed(
    project: Project, publisher: list[list[str]], own_module: Callable[[str, str], None]
) -> None:
    own_module("my_recipes", MINE)
    arguments = ("--project", "vision", "--recipe", "my_recipes:Mine", "--set", "size=9")
    create(*arguments)
    create(*arguments)
    assert publisher == [["recipes", "--publish", "my_recipes:Mine"]]
    own_module("my_recipes", MINE.replace("maximum=9", "maximum=8"))
    assert "size takes a whole number from 1 to 8, not 9." in refusal("create_run", *arguments)
    assert len(publisher) == 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("minst", "name a built-in one (mnist, digits, transformer)"),
        ("not_there.mine:Mine", "there is no module not_there.mine"),
        ("my_recipes:Yours", "has no class Yours"),
        ("broken:Mine", "broken does not load: ZeroDivisionError: division by zero"),
        ("unfinished:Mine", "does not load: SyntaxError"),
    ],
)
def test_it_says_why_a_recipe_cannot_be_used(
    project: Project, publisher: list[list[str]], own_module: Callable[[str, str], None], spec: str, words: str
) -> None:
    own_module("my_recipes", MINE)
    own_module("broken", "1 / 0\n")
    own_module("unfinished", "class Mine(\n")
    said = refusal("create_run", "--project", "vision", "--recipe", spec)
    assert said.startswith("recipe: ")
    assert words.replace("broken does", "broken:Mine does") in said


def test_it_publishes_built_in_and_configured_recipes_once_each(
    db: None, settings: Settings, own_module: Callable[[str, str], None]
) -> None:
    own_module("my_recipes", MINE)
    settings.STEERSMAN_RECIPES = ["my_recipes:Mine"]
    for _ in range(2):
        call_command("recipes", "--publish", stdout=StringIO())
    assert list(Recipe.objects.values_list("spec", "title")) == [
        ("digits", "Digits, quick"),
        ("mnist", "MNIST digits"),
        ("my_recipes:Mine", "Mine"),
        ("transformer", "Transformer on text"),
    ]
    mine = Recipe.objects.get(spec="my_recipes:Mine")
    assert mine.description == "Digits of my own."
    assert mine.source_sha256 == source_sha256("my_recipes:Mine")
    assert mine.parameter_specs["size"] == ValueSpec("size", "int", 1, 9, help="how large", default=3)
    assert is_published("mnist")


def test_it_publishes_the_others_when_one_does_not_load(db: None, own_module: Callable[[str, str], None]) -> None:
    own_module("broken", "1 / 0\n")
    assert "broken:Mine does not load" in refusal("recipes", "--publish", "broken:Mine", "digits")
    assert Recipe.objects.get().spec == "digits"


def test_it_lists_parameters_with_type_default_range_and_help() -> None:
    out = StringIO()
    call_command("recipes", "digits", stdout=out, no_color=True)
    lines = out.getvalue().splitlines()
    assert lines[0] == "digits: Digits, quick"
    [epochs] = [line for line in lines if line.lstrip().startswith("epochs")]
    words = "epochs int 10 a whole number from 1 to 100000 passes over the training set"
    assert epochs.split() == words.split()


@pytest.fixture
def empty_stack() -> Iterator[Stack]:
    """A data folder without a database."""
    with Stack() as empty:
        yield empty


def test_it_creates_a_run_without_loading_torch_and_says_what_comes_next(empty_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "own_recipe.py").write_text(MINE)

    def manage(*arguments: str, torch_fails: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        if torch_fails:
            script = "import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0])"
            script += "; import manage; sys.argv[0] = 'manage.py'; manage.main()"
            command = [sys.executable, "-c", script, str(ROOT), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=empty_stack.environment, capture_output=True, text=True, timeout=300
        )

    unready = manage("create_run", "--project", "p")
    assert unready.returncode == 2
    assert "manage.py migrate" in unready.stderr
    (empty_stack.data / "steersman.sqlite3").unlink(missing_ok=True)
    empty_stack.migrate()
    arguments = ("create_run", "--project", "p", "--create-project", "--recipe", "own_recipe:Mine", "--set")
    made = manage(*arguments, "size=4", torch_fails=True)
    said = "Run 1 (Mine) is recorded in project p.\nStart the run with: python manage.py train --run-id 1\n"
    assert (made.stdout, made.stderr, made.returncode) == (said, "", 0)
    # `create_run` finds the portal by the lock of the process that serves this folder, while that process lives.
    lock = empty_stack.data / "serve.lock"
    for process, line in ((os.getpid(), "Its page: http://127.0.0.1:8000/runs/2/\n"), (2**22 + 1, "")):
        lock.write_text(f"make serve, process {process}, http://127.0.0.1:8000/\n")
        assert ("Its page" in (said := manage(*arguments, "size=4").stdout)) == bool(line) and line in said
    assert manage(*arguments, "size=4", "--quiet").stdout == "4\n"
    refused = manage(*arguments, "size=40", torch_fails=True)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "size takes a whole number from 1 to 9, not 40." in refused.stderr
    assert "Traceback" not in refused.stderr


def test_who_reads_the_first_lines_alone_gets_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "manage.py"), "recipes"]
    environment = os.environ | {"STEERSMAN_DATA": str(tmp_path / "data")}
    done = subprocess.run(command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
