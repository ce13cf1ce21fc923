"""Every kind of knob through every place that accepts a value: each returns the same value or the same refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from runs.models import Command, Host, Membership, Project, Recipe, Role, Run, RunState
from steersman.files.locks import try_lock
from steersman.kinds import KINDS, Kind, Value
from steersman.knobs import Knob
from steersman.marked_text import MarkedText
from steersman.run import Run as RunOfScript
from steersman.run import worker_lock_path
from steersman.spec import SpecError, ValueSpec
from trainer.worker.recipe import Recipe as TrainedRecipe
from trainer.worker.recipe import parameter

pytestmark = pytest.mark.django_db

SPECS = [
    ValueSpec("rate", "float", 0.001, 1.0, scale="log", default=0.5),
    ValueSpec("layers", "int", 1, 2000, default=2),
    ValueSpec("count", "int", default=2),
    ValueSpec("loud", "bool", default=False),
    ValueSpec("mode", "choice", choices=("fast", "slow"), default="fast"),
    ValueSpec("bits", "choice", choices=(8, 16), default=8),
    ValueSpec("note", "str", maximum=5, default=""),
]
RATE, LAYERS = "rate takes a number from 0.001 to 1, not ", "layers takes a whole number from 1 to 2000, not "
COUNT = "count takes a whole number from -9007199254740992 to 9007199254740992, not "
BITS, NOTE = "bits takes one of 8, 16, not ", "note takes text of at most 5 characters, not "
# Text that a person types, which JSON may contain too.
TYPED: list[tuple[str, str, Value | str]] = [
    ("rate", "1e-2", 0.01),
    ("rate", "1", 1.0),
    ("rate", "2.0", f"{RATE}2."),
    ("rate", "nan", f"{RATE}nan."),
    ("rate", "inf", f"{RATE}inf."),
    ("rate", "quick", f"{RATE}'quick'."),
    ("rate", "", f"{RATE}''."),
    ("rate", "true", f"{RATE}'true'."),
    ("layers", "3", 3),
    ("layers", "1e3", 1000),
    ("layers", "3.0", 3),
    ("layers", "2.5", f"{LAYERS}2.5."),
    ("layers", "0", f"{LAYERS}0."),
    ("layers", "1_0", f"{LAYERS}'1_0'."),
    ("count", "9007199254740992", 2**53),
    ("count", "9007199254740993", f"{COUNT}9007199254740993."),
    ("loud", "yes", True),
    ("loud", "on", True),
    ("loud", "1", True),
    ("loud", "TRUE", True),
    ("loud", "no", False),
    ("loud", "off", False),
    ("loud", "0", False),
    ("loud", "false", False),
    ("loud", "perhaps", "loud takes true or false, not 'perhaps'."),
    ("mode", "slow", "slow"),
    ("mode", "slower", "mode takes one of fast, slow, not 'slower'."),
    ("bits", "16", 16),
    ("bits", "1.6e1", 16),
    ("bits", "32", f"{BITS}'32'."),
    ("note", "a=b", "a=b"),
    ("note", "12", "12"),
    ("note", "", ""),
    ("note", "x" * 6, f"{NOTE}'xxxxxx'."),
    ("note", "x" * 1999, f"{NOTE}'{'x' * 12}...{'x' * 13}'."),
]
# Other values than text, which JSON and scripts may contain.
GIVEN: list[tuple[str, Any, Value | str]] = [
    ("rate", 1, 1.0),
    ("rate", 7, f"{RATE}7."),
    ("rate", True, f"{RATE}true."),
    ("rate", math.nan, f"{RATE}nan."),
    ("rate", math.inf, f"{RATE}inf."),
    ("layers", 3.0, 3),
    ("layers", True, f"{LAYERS}true."),
    ("layers", 2.5, f"{LAYERS}2.5."),
    ("count", 2**53 + 1, f"{COUNT}9007199254740993."),
    ("loud", True, True),
    ("loud", 1, "loud takes true or false, not 1."),
    ("mode", True, "mode takes one of fast, slow, not true."),
    ("bits", 16.0, 16),
    ("bits", True, f"{BITS}true."),
    ("note", 12, f"{NOTE}12."),
]


class Places:
    """The places that accept a value of a spec. Each returns the value, or the message of the refusal."""

    def __init__(self, specs: list[ValueSpec], folder: Path) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.folder = folder
        self.project = Project.objects.create(name="Lab", slug="lab")
        self.user = User.objects.create_superuser("ada")
        Membership.objects.create(project=self.project, user=self.user, role=Role.OWNER)
        Host.objects.create(name="here", heartbeat_at=now(), devices=[])
        self.recipe = Recipe.objects.create(
            spec="lab.mine:Mine", title="Mine", parameters=[spec.to_wire() for spec in specs]
        )
        knobs = [Knob(spec, spec.default).to_wire() for spec in specs if spec.default is not None]
        self.run = Run.objects.create(project=self.project, name="r", state=RunState.RUNNING, attempt=1, knobs=knobs)
        self.client = Client()
        self.client.force_login(self.user)

    def trained_recipe(self, name: str, given: Any) -> Any:
        body: dict[str, Any] = {
            spec.name: parameter(
                spec.default,  # type: ignore[type-var]
                minimum=spec.minimum, maximum=spec.maximum, choices=spec.choices, scale=spec.scale, kind=spec.kind,
                knob=True,
            )
            for spec in self.specs.values()
        }  # fmt: skip
        recipe = type("Mine", (TrainedRecipe,), body | dict.fromkeys(TrainedRecipe.__abstractmethods__))
        try:
            return getattr(recipe({name: given}, device=torch.device("cpu")), name)
        except SpecError as error:
            return str(error)

    def create_run(self, name: str, text: str) -> Any:
        out = StringIO()
        try:
            options = {"project": "lab", "recipe": self.recipe.spec, "set": [f"{name}={text}"], "quiet": True}
            call_command("create_run", **options, stdout=out)
        except CommandError as error:
            return str(error)
        return Run.objects.get(pk=int(out.getvalue())).parameters[name]

    def form(self, name: str, text: str) -> Any:
        fields = {f"p-{spec.name}": spec.default_text for spec in self.specs.values()} | {f"p-{name}": text}
        run = {"project": "lab", "recipe": self.recipe.spec, "shown": self.recipe.spec, "seed": "0", "place": "/auto"}
        answer = self.client.post(reverse("new_run"), fields | run | {"create": "1"})
        if answer.status_code == 422:
            return answer.context["form"].errors[f"p-{name}"][0]
        return Run.objects.latest("pk").parameters[name]

    def form_of_admin(self, name: str, given: Any) -> Any:
        fields = {"project": self.project.pk, "name": "new", "device": "auto", "seed": 0, "recipe": self.recipe.pk}
        answer = self.client.post("/admin/runs/run/add/", fields | {"parameters": json.dumps({name: given})})
        if answer.status_code == 200:
            return answer.context["adminform"].form.errors["parameters"][0]
        return Run.objects.latest("pk").parameters[name]

    def command_of_api(self, name: str, given: Any) -> Any:
        body = json.dumps({"command": "set_knob", "arguments": {"knob": name, "value": given}})
        self.client.post(f"/api/runs/{self.run.pk}/commands/", body, content_type="application/json")
        return self._asked()

    def command_of_terminal(self, name: str, text: str) -> Any:
        # A refusal ends the program with 1.
        try:
            call_command("command", self.run.pk, "set_knob", f"{name}={text}", stdout=StringIO())
        except SystemExit as end:
            assert end.code == 1
        return self._asked()

    def command_of_admin(self, name: str, text: str) -> Any:
        asked = {"words": f"set_knob {name}={text}", "confirmed": "yes"}
        self.client.post(reverse("admin:runs_run_command", args=[self.run.pk]), asked)
        return self._asked()

    def knob(self, name: str, given: Any) -> Any:
        spec = self.specs[name]
        lock = try_lock(worker_lock_path(self.folder, 0))
        assert lock is not None and spec.default is not None
        knob = RunOfScript(self.folder, 0, lock).knob(
            name, spec.default, minimum=spec.minimum, maximum=spec.maximum, choices=spec.choices, kind=spec.kind
        )
        try:
            return knob.change(value=given).new
        except SpecError as error:
            return str(error)

    def _asked(self) -> Any:
        row = Command.objects.get()
        return row.outcome if row.state == "refused" else row.arguments["value"]


TEXT_PLACES: list[Callable[[Places, str, str], Any]] = [
    Places.trained_recipe, Places.create_run, Places.form, Places.form_of_admin,
    Places.command_of_api, Places.command_of_terminal, Places.command_of_admin, Places.knob,
]  # fmt: skip
VALUE_PLACES = [Places.trained_recipe, Places.form_of_admin, Places.command_of_api, Places.knob]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(SPECS, tmp_path)


def test_every_kind_is_in_the_tables() -> None:
    kinds = {spec.name: spec.kind for spec in SPECS}
    assert {kinds[name] for name, _, _ in TYPED} == {kinds[name] for name, _, _ in GIVEN} == set(KINDS) - {"any"}


@pytest.mark.parametrize("place", TEXT_PLACES, ids=lambda place: place.__name__)
def test_what_is_typed_is_the_same_everywhere(places: Places, place: Callable[..., Any]) -> None:
    for name, text, expected in TYPED:
        Command.objects.all().delete()
        found = place(places, name, text)
        assert (found, type(found)) == (expected, type(expected)), (name, text)


@pytest.mark.parametrize("place", VALUE_PLACES, ids=lambda place: place.__name__)
def test_what_is_given_as_a_value_is_the_same_everywhere(places: Places, place: Callable[..., Any]) -> None:
    for name, given, expected in GIVEN:
        Command.objects.all().delete()
        found = place(places, name, given)
        assert (found, type(found)) == (expected, type(expected)), (name, given)


def test_defaults_of_numpy_and_torch_become_plain(places: Places) -> None:
    defaults: dict[str, Any] = {"a": np.int64(3), "b": np.float32(0.5), "c": np.bool_(True), "d": torch.tensor(2)}
    annotations = {"a": "int", "b": "float", "c": "bool", "d": "int"}
    body = {name: parameter(default, knob=True) for name, default in defaults.items()}
    recipe = type("Mine", (TrainedRecipe,), body | {"__annotations__": annotations})
    assert [spec.default for name, spec in recipe.declared.items() if name in body] == [3, 0.5, True, 2]
    json.dumps([recipe.schema(), recipe.knobs()])


def test_a_checkbox_that_a_browser_leaves_out_is_off(places: Places) -> None:
    fields = {f"p-{spec.name}": spec.default_text for spec in SPECS if spec.name != "loud"}
    run = {"project": "lab", "recipe": places.recipe.spec, "shown": places.recipe.spec, "seed": "0", "place": "/auto"}
    assert places.client.post(reverse("new_run"), fields | run | {"create": "1"}).status_code == 302
    assert Run.objects.latest("pk").parameters["loud"] is False
    page = places.client.post(reverse("new_run"), fields | run | {"p-loud": "no", "p-rate": "x"}).content.decode()
    assert "checked" not in page.split('name="p-loud"')[1].split(">")[0]
    page = places.client.post(reverse("new_run"), fields | run | {"p-loud": "on", "p-rate": "x"}).content.decode()
    assert "checked" in page.split('name="p-loud"')[1].split(">")[0]


def test_the_reader_is_told_in_chinese(places: Places) -> None:
    places.client.cookies["steersman_language"] = "zh-hans"
    assert places.form("layers", "0") == "layers 应为 1 到 2000 的整数，不能是 0。"
    assert places.form_of_admin("note", 12) == "note 应为不超过 5 个字符的文本，不能是 12。"
    asked = {"words": "set_knob bits=9", "confirmed": "yes"}
    answer = places.client.post(reverse("admin:runs_run_command", args=[places.run.pk]), asked, follow=True)
    assert "bits 应为以下之一：8, 16，不能是 &#x27;9&#x27;。" in answer.content.decode()
    assert Command.objects.get().outcome == "bits takes one of 8, 16, not '9'."


def test_a_command_to_a_knob_that_is_not_known_yet_keeps_what_was_typed(places: Places) -> None:
    Run.objects.update(knobs=[])
    assert places.command_of_terminal("layers", "1e3") == "1e3"
    assert Knob(places.specs["layers"], 2).change(value="1e3").new == 1000


@pytest.fixture
def duration() -> Iterator[type[Kind]]:
    class Duration(Kind):
        """Seconds, typed as 90s or 5m."""

        name = "duration"
        units: ClassVar = {"s": 1.0, "m": 60.0}

        def takes(self, spec: ValueSpec) -> MarkedText:
            return MarkedText("a duration such as 90s or 5m")

        def check(self, spec: ValueSpec, value: object) -> Value:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise self.refusal(spec, value)
            return float(value)

        def parse(self, spec: ValueSpec, text: str) -> Value:
            if text[:-1].isdecimal() and text[-1] in self.units:
                return self.check(spec, int(text[:-1]) * self.units[text[-1]])
            raise self.refusal(spec, text)

        def text(self, value: Value) -> str:
            return f"{value:.0f}s"

    yield Duration
    del KINDS["duration"]


def test_a_kind_of_ones_own_is_one_class(duration: type[Kind], tmp_path: Path) -> None:
    places = Places([ValueSpec("limit", "duration", default=90.0, help="how long")], tmp_path)
    for place in TEXT_PLACES:
        for text, expected in (("5m", 300.0), ("soon", "limit takes a duration such as 90s or 5m, not 'soon'.")):
            Command.objects.all().delete()
            assert place(places, "limit", text) == expected, place
    for place in VALUE_PLACES:
        for given, expected in ((5, 5.0), (True, "limit takes a duration such as 90s or 5m, not true.")):
            Command.objects.all().delete()
            assert place(places, "limit", given) == expected, place
    (told,) = places.client.get(f"/api/runs/{places.run.pk}/knobs/").json()["items"]
    assert (told["kind"], told["input"], told["value"]) == ("duration", "text", 90.0)
    page = places.client.get(reverse("new_run"), {"recipe": places.recipe.spec}).content.decode()
    assert '<input type="text" name="p-limit" value="90s"' in page and "how long · default 90s" in page
    page = places.client.get(reverse("admin:runs_run_change", args=[places.run.pk])).content.decode()
    assert "a duration such as 90s or 5m" in page
    out = StringIO()
    call_command("command", places.run.pk, list=True, stdout=out)
    assert "takes a duration such as 90s or 5m. how long" in out.getvalue()
