"""`manage.py create_run`: creates a run and prints its address. Reads published rows, never imports torch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug
from django.db import transaction

from runs.curation.tags import BadTag, change_tags, tag_name
from runs.models import UNNAMED, AfterCondition, Membership, Project, Recipe, Role, Run, RunState
from runs.protocol.argument_text import argument_spec
from runs.protocol.commands import SetPriority
from runs.protocol.storable_text import option_text
from runs.recording.queue import After, NotQueueable, enqueue, start_command
from runs.recording.restart_policy import number_of_restarts
from steersman.agent.launch.torchrun import number_of_ranks
from steersman.exit_codes import EXIT_BAD_INPUT
from steersman.gpu_memory import mib_of_text
from steersman.slots import DEVICE_NAME
from steersman.spec import SpecError, ValueSpec, typed_values
from trainer.control.publish import is_published
from trainer.portal_address import portal_here
from trainer.recipe_names import RecipeError

# The largest number that the column accepts in every database.
SEED = ValueSpec("seed", "int", 0, 2**31 - 1)


class InvalidInput(CommandError):
    """Invalid input, for which no run is created: exit code 2 and a sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, returncode=EXIT_BAD_INPUT)


class Command(BaseCommand):
    help = (
        "Create a run, and print the address of its page and the command that starts it. Leave out --recipe if you "
        "train a script of your own. --quiet prints only the number, for manage.py train --run-id."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--project", type=option_text, required=True, metavar="SLUG", help="the project that the run belongs to"
        )
        parser.add_argument("--create-project", action="store_true", help="create the project if it does not exist")
        parser.add_argument(
            "--recipe", metavar="SPEC", help="built-in name or dotted path of a recipe; see manage.py recipes"
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the recipe, repeatable"
        )
        parser.add_argument(
            "--name",
            type=option_text,
            default="",
            help="name of the run; default: the recipe's title, or the name of your script",
        )
        parser.add_argument(
            "--tag",
            type=option_text,
            action="append",
            default=[],
            metavar="NAME",
            help="a word to find the run by, repeatable",
        )
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
        parser.add_argument("--seed", default="0", help="seed of all random numbers")
        parser.add_argument("--deterministic", action="store_true", help="use only deterministic algorithms")
        parser.add_argument(
            "--user", type=option_text, default="", metavar="USERNAME", help="the person to whom the run belongs"
        )
        parser.add_argument(
            "--restarts",
            type=number_of_restarts,
            default=0,
            metavar="K",
            help="after a crash, restart from the newest checkpoint, at most K times",
        )
        parser.add_argument(
            "--start-paused", action="store_true", help="wait before the first step, so that knobs can be set first"
        )
        parser.add_argument(
            "--nproc", type=number_of_ranks, default=1, metavar="K", help="train with K processes on one host"
        )
        parser.add_argument(
            "--gpu-memory", type=mib_of_text, metavar="SIZE", help="memory needed on each GPU, such as 10GiB or 800MiB"
        )
        parser.add_argument("--queue", action="store_true", help="queue the run; manage.py watch starts it")
        parser.add_argument(
            "--host", type=option_text, default="", help="with --queue: the host that starts the run; default: any"
        )
        parser.add_argument(
            "--after", type=int, metavar="N", help="queue the run, and start it when the older run N has finished"
        )
        parser.add_argument(
            "--after-condition",
            choices=AfterCondition.values,
            default=AfterCondition.FINISHED.value,
            help="finished: only if run N finishes; ended: also if it is stopped, fails or is deleted",
        )
        parser.add_argument(
            "--priority",
            type=_priority,
            default=0,
            metavar="P",
            help="priority in the queue, -10 to 10; higher starts first",
        )
        parser.add_argument("--quiet", action="store_true", help="print only the number of the run")

    def handle(self, **options: Any) -> None:
        try:
            recipe = _recipe(options["recipe"]) if options["recipe"] else None
            parameters = _parameters(recipe, options["set"])
            tags = [tag_name(text) for text in options["tag"]]
            with transaction.atomic():
                user = _user(options["user"])
                project = _project(options["project"], options["create_project"], user)
                run = Run(
                    project=project,
                    recipe=recipe,
                    name=options["name"] or (recipe.title if recipe else UNNAMED),
                    parameters=parameters,
                    device=_device(options["device"]),
                    seed=SEED.parse(options["seed"]),
                    deterministic=options["deterministic"],
                    restarts=options["restarts"],
                    ranks=options["nproc"],
                    start_paused=options["start_paused"],
                    gpu_memory_mib=options["gpu_memory"],
                    created_by_id=user.pk if user else None,
                )
                run.full_clean()
                run.save()
                change_tags(run.pk, tags)
                awaited = options["after"]
                after = None if awaited is None else After(awaited, AfterCondition(options["after_condition"]))
                if options["queue"] or after:
                    enqueue(run.pk, options["host"], after=after, priority=options["priority"])
                elif options["host"]:
                    raise InvalidInput(
                        "host: only valid with --queue; to start the run yourself, run the train command on that host."
                    )
                elif options["priority"]:
                    raise InvalidInput(
                        "priority: only valid with --queue; a run that you start yourself does not wait."
                    )
        except BadTag as error:
            raise InvalidInput(f"tag: {error}") from error
        except NotQueueable as error:
            raise InvalidInput(f"{error.field}: {error}") from error
        except (SpecError, RecipeError) as error:
            raise InvalidInput(str(error)) from error
        except ValidationError as error:
            raise InvalidInput(_sentence(error)) from error
        if options["quiet"]:
            self.stdout.write(str(run.pk))
            return
        run.refresh_from_db()
        for line in _lines(run):
            self.stdout.write(line)


def _lines(run: Run) -> list[str]:
    """Return the output about a new run: its status, its address, and the next step."""
    queued = run.state == RunState.QUEUED
    lines = [f"Run {run.pk} ({run.name}) is {'queued' if queued else 'recorded'} in project {run.project.slug}."]
    if address := portal_here(settings.STEERSMAN_DATA):
        # Not through `reverse`, which loads every page. Behind a proxy, the address already includes the path.
        lines.append(f"Its page: {address}runs/{run.pk}/")
    if not queued:
        lines.append(f"Start the run with: {start_command(run)}")
    elif run.after_run:
        how = "has finished" if run.after_condition == AfterCondition.FINISHED else "has ended in any way"
        lines.append(f"The run starts once run {run.after_run} {how} and a device is free.")
    return lines


def _priority(text: str) -> int:
    """Return the value of `--priority`. Raises `argparse.ArgumentTypeError` if it is invalid."""
    spec = argument_spec(SetPriority, "priority")
    assert spec is not None
    try:
        return int(spec.parse(text))
    except SpecError as error:
        raise argparse.ArgumentTypeError(f"give a whole number from -10 to 10, not {text!r}") from error


def _recipe(spec: str) -> Recipe:
    """Return the row of `spec`; publish it in a separate process if there is none or its source has changed."""
    if not is_published(spec):
        manage = Path(settings.BASE_DIR) / "manage.py"
        answer = subprocess.run(
            [sys.executable, str(manage), "recipes", "--publish", spec],
            env=os.environ | {"STEERSMAN_DATA": str(settings.STEERSMAN_DATA)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if answer.returncode:
            lines = answer.stderr.strip().splitlines() or [f"publishing ended with exit code {answer.returncode}"]
            raise InvalidInput(lines[-1].removeprefix("CommandError: "))
    return Recipe.objects.get(spec=spec)


def _parameters(recipe: Recipe | None, settings_given: list[str]) -> dict[str, Any]:
    given: dict[str, str] = {}
    for text in settings_given:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise InvalidInput(f"set: {text!r} does not have the form --set name=value.")
        given[name] = value
    if recipe is None:
        if given:
            raise InvalidInput(
                f"set: parameters ({', '.join(given)}) need a recipe; name one with --recipe, or give arguments to "
                "your script: manage.py train --run-id N -- script.py …"
            )
        return {}
    return typed_values(recipe.parameter_specs, given)


def _project(slug: str, create: bool, user: AbstractBaseUser | None) -> Project:
    project = Project.objects.filter(slug=slug).first()
    if project is not None:
        return project
    if not create:
        known = ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20])
        others = f", or choose one of: {known}" if known else ""
        raise InvalidInput(f"project: there is no project {slug!r}; add --create-project{others}.")
    try:
        validate_slug(slug)
    except ValidationError as error:
        raise InvalidInput(f"project: {slug!r} is not a slug; use letters, digits, - and _ only.") from error
    project = Project.objects.create(name=slug, slug=slug)
    if user is not None:
        Membership.objects.create(project=project, user_id=user.pk, role=Role.OWNER)
    return project


def _user(name: str) -> AbstractBaseUser | None:
    if not name:
        return None
    users = get_user_model().objects
    user = users.filter(username=name).first()
    if user is None:
        known = ", ".join(users.order_by("username").values_list("username", flat=True)[:20])
        remedy = f"choose one of: {known}" if known else "make one with manage.py createsuperuser"
        raise InvalidInput(f"user: there is no user {name!r}; {remedy}.")
    return user


def _device(name: str) -> str:
    if DEVICE_NAME.fullmatch(name) is None:
        raise InvalidInput(f"device: {name!r} is not a device; use auto, cpu, cuda or cuda:N such as cuda:1.")
    return name


def _sentence(error: ValidationError) -> str:
    return " ".join(f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items())
