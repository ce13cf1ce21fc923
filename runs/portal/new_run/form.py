"""The form that creates a run: recipe, parameters and device."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Model
from django.forms import BoundField
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from runs.access.roles import COMMANDING_ROLES
from runs.curation.tags import MOST_TAGS, BadTag, change_tags, split_tags
from runs.models import LARGEST_ID, AfterCondition, Project, Recipe, Run
from runs.portal.new_run.device_choices import HOST, host_choices, split_choice
from runs.portal.new_run.parameter_fields import PREFIX, SpecField
from runs.recording.queue import After, living_hosts
from runs.recording.queue_places import WaitingRuns
from runs.recording.restart_policy import MOST_RESTARTS
from steersman.gpu_memory import MIB_A_GIB, mib_of_text
from steersman.kinds import SpecError
from steersman.slots import DEVICE_NAME
from steersman.spec import typed_values

LARGEST_SEED = 2**31 - 1
MOST_RANKS_OF_FORM = 64


def size_text(mib: int | None) -> str:
    """Return a size as it is typed: "10GiB", "800MiB"."""
    if not mib:
        return ""
    return f"{mib // MIB_A_GIB}GiB" if mib % MIB_A_GIB == 0 else f"{mib}MiB"


def startable_projects(user: AbstractBaseUser) -> Any:
    """Return the projects in which `user` may start runs."""
    return Project.objects.filter(memberships__user_id=user.pk, memberships__role__in=COMMANDING_ROLES)


class RecipeField(forms.ModelChoiceField):
    """Recipes by title, and by the name that commands use."""

    def label_from_instance(self, obj: Model) -> str:
        assert isinstance(obj, Recipe)
        return f"{_(obj.title)} ({obj.spec})"


class StartForm(forms.Form):
    """A new run. The fields of the parameters of `recipe` are called `p-<name>`.

    `shown` is the recipe whose parameters the page shows: if the chosen one differs, its parameters are shown first.
    """

    project = forms.ModelChoiceField(
        label=_("Project"),
        queryset=Project.objects.none(),
        to_field_name="slug",
        empty_label=None,
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    recipe = RecipeField(
        label=_("Recipe"),
        queryset=Recipe.objects.all(),
        to_field_name="spec",
        empty_label=None,
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=120,
        required=False,
        help_text=_("The name of the run. Leave empty to use the title of the recipe."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    tags = forms.CharField(
        label=_("Tags"),
        max_length=500,
        required=False,
        help_text=_("Words to find the run by, separated by commas."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    seed = forms.IntegerField(
        label=_("Seed"),
        min_value=0,
        max_value=LARGEST_SEED,
        initial=0,
        help_text=_("Seed of all random numbers. The same seed and parameters give the same curve."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    deterministic = forms.BooleanField(
        label=_("Deterministic"),
        required=False,
        help_text=_("Use only algorithms with bit-identical results. Slower on a GPU."),
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )
    start_paused = forms.BooleanField(
        label=_("Start paused"),
        required=False,
        help_text=_("Wait before the first step, so that you can set knobs."),
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )
    restarts = forms.IntegerField(
        label=_("Restarts"),
        min_value=0,
        max_value=MOST_RESTARTS,
        initial=0,
        required=False,
        help_text=_(
            "How often the run may restart from its newest checkpoint after a crash, an out-of-memory kill or a lost "
            "host. 0: never."
        ),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    ranks = forms.IntegerField(
        label=_("Ranks"),
        min_value=1,
        max_value=MOST_RANKS_OF_FORM,
        initial=1,
        required=False,
        help_text=_("Training processes on the host, usually one per GPU. Each takes its shard of every batch."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    gpu_memory = forms.CharField(
        label=_("GPU memory"),
        max_length=40,
        required=False,
        help_text=_("Memory needed on each GPU, for example 10GiB. Leave empty for an even share of the GPU."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    after = forms.IntegerField(
        label=_("After run"),
        min_value=1,
        max_value=LARGEST_ID,
        required=False,
        help_text=_("The number of a run to wait for. Leave empty to wait only for a device."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    after_condition = forms.ChoiceField(
        label=_("Start when that run has"),
        choices=AfterCondition.choices,
        initial=AfterCondition.FINISHED,
        required=False,
        help_text=_(
            "Finished: this run starts only if that run finishes. Ended in any way: it also starts if that run "
            "fails, is stopped or is deleted."
        ),
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    place = forms.ChoiceField(label=_("Device"), widget=forms.RadioSelect)
    clone = forms.IntegerField(required=False, widget=forms.HiddenInput)
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        user: AbstractBaseUser,
        recipe: Recipe | None,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial={**(initial or {}), "shown": recipe.spec if recipe else ""})
        self.user = user
        self.recipe_row = recipe
        chosen = self.fields["project"]
        assert isinstance(chosen, forms.ModelChoiceField)
        chosen.queryset = startable_projects(user)
        self.hosts = living_hosts(timezone.now())
        wanted = str((data or {}).get("place") or self.initial.get("place") or "")
        self.place_groups = host_choices(self.hosts, wanted, WaitingRuns().waiting_for)
        flat = [(place.value, place.title) for group in self.place_groups for place in group.devices]
        place_field = self.fields["place"]
        assert isinstance(place_field, forms.ChoiceField)
        place_field.choices = flat
        # Hosts come first: if there is one, it is the default.
        self.initial.setdefault("place", flat[0][0])
        self.specs = recipe.parameter_specs if recipe else {}
        for name, spec in self.specs.items():
            self.fields[PREFIX + name] = SpecField(spec)

    @property
    def parameter_fields(self) -> list[BoundField]:
        return [self[PREFIX + name] for name in self.specs]

    @property
    def place_value(self) -> str:
        return str(self["place"].value())

    def clean_place(self) -> str:
        """Check only the form of the choice, because a host that went offline meanwhile is still a valid choice."""
        value: str = self.cleaned_data["place"]
        host, device = split_choice(value)
        if not DEVICE_NAME.fullmatch(device) or not HOST.fullmatch(host):
            raise forms.ValidationError(_("Choose one of the devices."))
        return value

    def clean_restarts(self) -> int:
        return self.cleaned_data["restarts"] or 0

    def clean_ranks(self) -> int:
        return self.cleaned_data["ranks"] or 1

    def clean_gpu_memory(self) -> int | None:
        typed: str = self.cleaned_data["gpu_memory"]
        try:
            return mib_of_text(typed) if typed.strip() else None
        except ArgumentTypeError as error:
            raise forms.ValidationError(_("Give a size such as 10GiB or 800MiB.")) from error

    def clean_tags(self) -> list[str]:
        try:
            tags = split_tags(self.cleaned_data["tags"])
        except BadTag as error:
            raise forms.ValidationError(str(error)) from error
        if len(tags) > MOST_TAGS:
            raise forms.ValidationError(_("Give at most %(most)d tags."), params={"most": MOST_TAGS})
        return tags

    def clean_after(self) -> int | None:
        number: int | None = self.cleaned_data["after"]
        if number is not None and not Run.objects.visible_to(self.user).filter(pk=number).exists():
            text = _("There is no run #%(run)d, or you may not see it.")
            raise forms.ValidationError(text, params={"run": number})
        return number

    @property
    def awaited(self) -> After | None:
        """Return the run that the new one waits for, and how, None if it waits for none. The form must be valid."""
        number = self.cleaned_data["after"]
        condition = self.cleaned_data["after_condition"] or AfterCondition.FINISHED
        return After(number, AfterCondition(condition)) if number else None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        recipe = cleaned.get("recipe")
        if recipe is not None and self.errors.keys().isdisjoint(PREFIX + name for name in self.specs):
            try:
                given = {name: cleaned[PREFIX + name] for name in self.specs}
                cleaned["parameters"] = typed_values(recipe.parameter_specs, given)
            except SpecError as error:  # the recipe was published again meanwhile
                field = PREFIX + error.name
                self.add_error(field if field in self.fields else "recipe", error.said.translated(gettext))
        clone = cleaned.get("clone")
        if clone is not None and not Run.objects.visible_to(self.user).filter(pk=clone).exists():
            cleaned["clone"] = None
        return cleaned

    def save(self) -> tuple[Run, str]:
        """Create the run; return it with its chosen host, "" for any."""
        chosen = self.cleaned_data
        host, device = split_choice(chosen["place"])
        run = Run.objects.create(
            project=chosen["project"],
            recipe=chosen["recipe"],
            name=chosen["name"].strip() or chosen["recipe"].title,
            parameters=chosen["parameters"],
            device=device,
            seed=chosen["seed"],
            deterministic=chosen["deterministic"],
            start_paused=chosen["start_paused"],
            restarts=chosen["restarts"],
            ranks=chosen["ranks"],
            gpu_memory_mib=chosen["gpu_memory"],
            created_by_id=self.user.pk,
            cloned_from_id=chosen["clone"],
        )
        change_tags(run.pk, chosen["tags"])
        return run, host
