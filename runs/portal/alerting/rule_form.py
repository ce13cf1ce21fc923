"""The form of a rule: the settings of one detector, and which of them can be combined."""

from __future__ import annotations

import math
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from runs.alerts.rules import STALL, Rule
from runs.models import AlertRule, RuleAction, Run, Severity
from runs.portal.alerting.offered import Offered
from runs.protocol.commands import MOST_SKIPPED_BATCHES
from runs.recording.alert_rules import fields_of

LONGEST_COOL_DOWN_S = 7 * 86_400
MOST_POINTS = 1_000
MOST_PER_HOUR = 60
MOST_PER_ATTEMPT = 1000
OF_KNOBS = (RuleAction.SCALE_KNOB, RuleAction.ROLL_BACK)
CONTROL, SELECT, CHECK = {"class": "form-control"}, {"class": "form-select"}, {"class": "form-check-input"}


def _number(label: Any, help_text: Any = "") -> forms.FloatField:
    widget = forms.NumberInput(attrs=CONTROL | {"step": "any"})
    return forms.FloatField(label=label, required=False, help_text=help_text, widget=widget)


def _from_roll_back(label: Any) -> forms.IntegerField:
    """Return the field for the number of the rollback from which a change is made."""
    return forms.IntegerField(
        label=label,
        min_value=1,
        max_value=MOST_PER_HOUR,
        required=False,
        help_text=gettext_lazy("1: each time. 2: only if the fault returns."),
        widget=forms.NumberInput(attrs=CONTROL),
    )


def _flag(label: Any) -> forms.BooleanField:
    return forms.BooleanField(label=label, required=False, widget=forms.CheckboxInput(attrs=CHECK))


class RuleForm(forms.Form):
    """A rule of the detector in the address. `taken` are existing rules that it must not repeat.

    A series or knob that is not `offered` is allowed, because a run may have it later; a note says so.
    """

    series = forms.CharField(
        label=gettext_lazy("Series"),
        max_length=200,
        required=False,
        help_text=gettext_lazy(
            "For example train/loss, or */loss, where * stands for any text. Leave empty for all series."
        ),
        widget=forms.TextInput(attrs=CONTROL | {"autocomplete": "off", "list": "offered-series"}),
    )
    is_on = _flag(gettext_lazy("On"))
    tells = _flag(gettext_lazy("Notify the destinations"))
    severity = forms.ChoiceField(
        label=gettext_lazy("Severity"),
        choices=[("", gettext_lazy("set by the detector")), *Severity.choices],
        required=False,
        widget=forms.Select(attrs=SELECT),
    )
    cool_down_s = forms.IntegerField(
        label=gettext_lazy("Cool-down in seconds"),
        min_value=0,
        max_value=LONGEST_COOL_DOWN_S,
        help_text=gettext_lazy("Minimum time between the beginnings of two alerts of a series."),
        widget=forms.NumberInput(attrs=CONTROL),
    )
    is_above = forms.TypedChoiceField(
        label=gettext_lazy("The value is"),
        choices=[("yes", gettext_lazy("above the limit")), ("no", gettext_lazy("below the limit"))],
        coerce=lambda value: value == "yes",
        widget=forms.Select(attrs=SELECT),
    )
    limit = _number(gettext_lazy("Limit"))
    clear_at = _number(
        gettext_lazy("Cleared at"), gettext_lazy("The alert is cleared at this value. Leave empty to use the limit.")
    )
    points = forms.IntegerField(
        label=gettext_lazy("Points in a row"),
        min_value=1,
        max_value=MOST_POINTS,
        widget=forms.NumberInput(attrs=CONTROL),
    )
    action = forms.ChoiceField(
        label=gettext_lazy("Action"),
        choices=[("", gettext_lazy("none")), *RuleAction.choices],
        required=False,
        help_text=gettext_lazy("The action when an alert begins. Late and snoozed alerts trigger no action."),
        widget=forms.Select(attrs=SELECT),
    )
    knob = forms.CharField(
        label=gettext_lazy("Knob"),
        max_length=60,
        required=False,
        help_text=gettext_lazy("The name of a knob, such as learning_rate. A rollback needs none."),
        widget=forms.TextInput(attrs=CONTROL | {"autocomplete": "off", "list": "offered-knobs"}),
    )
    factor = _number(gettext_lazy("Times"), gettext_lazy("0.5 halves it."))
    smallest = _number(
        gettext_lazy("Smallest value"), gettext_lazy("The rule does not act if the result would be smaller.")
    )
    factor_from = _from_roll_back(gettext_lazy("Change the knob from rollback number"))
    skip_batches = forms.IntegerField(
        label=gettext_lazy("Skip batches"),
        min_value=0,
        max_value=MOST_SKIPPED_BATCHES,
        required=False,
        help_text=gettext_lazy(
            "For a rollback: this number of batches is skipped before the step of the fault, and the same number "
            "from that step on."
        ),
        widget=forms.NumberInput(attrs=CONTROL),
    )
    skip_from = _from_roll_back(gettext_lazy("Skip batches from rollback number"))
    most_per_hour = forms.IntegerField(
        label=gettext_lazy("Most per hour"),
        min_value=1,
        max_value=MOST_PER_HOUR,
        widget=forms.NumberInput(attrs=CONTROL),
    )
    most_per_attempt = forms.IntegerField(
        label=gettext_lazy("Most per attempt"),
        min_value=1,
        max_value=MOST_PER_ATTEMPT,
        required=False,
        help_text=gettext_lazy("Leave empty for no limit."),
        widget=forms.NumberInput(attrs=CONTROL),
    )
    dry_run = _flag(gettext_lazy("Dry run: only record what the rule would do"))

    OF_ALERT = ("series", "severity", "cool_down_s", "is_on", "tells")
    OF_LIMIT = ("is_above", "limit", "clear_at", "points")
    OF_ACTION = (
        "action", "knob", "factor", "smallest", "factor_from", "skip_batches", "skip_from", "most_per_hour",
        "most_per_attempt", "dry_run",
    )  # fmt: skip

    def __init__(
        self,
        given: QueryDict | None,
        *,
        rule: Rule,
        taken: QuerySet[AlertRule],
        offered: Offered,
        run: Run | None = None,
    ) -> None:
        self.rule = rule
        self._taken = taken
        self._offered = offered
        initial = fields_of(rule) | {"series": rule.series, "is_above": "yes" if rule.is_above else "no"}
        initial["cool_down_s"] = int(rule.cool_down_s)
        super().__init__(given, initial=initial)
        if rule.is_of_state:
            for name in ("series", "cool_down_s", *self.OF_ACTION):
                del self.fields[name]
        elif rule.detector == STALL:
            # A stall belongs to the whole run, so a rule with a series would never apply.
            del self.fields["series"]
        if not rule.is_of_state and run is not None and run.attempt:
            self._offer_what_is_done(run)
        if not rule.has_limit:
            for name in self.OF_LIMIT:
                del self.fields[name]
        elif not rule.id:
            self.fields["limit"].required = True
        for name, note in self.notes().items():
            field = self.fields[name]
            field.help_text = format_html('{} <strong class="form-note">{}</strong>', field.help_text, note)

    def notes(self) -> dict[str, str]:
        """Return a note for each field whose value no run has, by the name of the field."""
        # Not the bound fields, which would keep the earlier help text.
        values = self.data if self.is_bound else self.initial
        series, knob, action = (
            str(values.get(name) or "") if name in self.fields else "" for name in ("series", "knob", "action")
        )
        found = {
            "series": self._offered.note_on_series(Rule(self.rule.detector, series.strip())),
            "knob": self._offered.note_on_knob(knob.strip()) if knob.strip() and action in OF_KNOBS else "",
        }
        return {name: note for name, note in found.items() if note}

    def _offer_what_is_done(self, run: Run) -> None:
        """Remove the actions for which the training of `run` has no handler, unless the rule already has one."""
        actions = self.fields["action"]
        assert isinstance(actions, forms.ChoiceField)
        actions.choices = [
            (action, label)
            for action, label in [("", _("none")), *RuleAction.choices]
            if action == self.rule.action or not run.withholds(action)
        ]

    def parts(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Return the fields in groups with a heading."""
        parts = [(_("Alert"), self.OF_ALERT), (_("Limit"), self.OF_LIMIT), (_("Action"), self.OF_ACTION)]
        found = [(title, [self[name] for name in names if name in self.fields]) for title, names in parts]
        return [part for part in found if part[1]]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name in ("limit", "clear_at", "factor", "smallest"):
            if given.get(name) is not None and not math.isfinite(given[name]):
                self.add_error(name, _("Give a finite number."))
        limit, clear_at = given.get("limit"), given.get("clear_at")
        is_above = given.get("is_above")
        if limit is not None and clear_at is not None and (clear_at > limit if is_above else clear_at < limit):
            self.add_error("clear_at", _("Give a value that is not beyond the limit."))
        if self.rule.has_limit and limit is None and "limit" not in self.errors:
            self.add_error("limit", _("Give the limit."))
        changes = given.get("action") == RuleAction.ROLL_BACK and (given.get("knob") or given.get("factor") is not None)
        if given.get("action") == RuleAction.SCALE_KNOB or changes:
            if not given.get("knob"):
                self.add_error("knob", _("Name the knob to scale."))
            if not given.get("factor") or given["factor"] <= 0:
                self.add_error("factor", _("Give a number above 0."))
        if self._taken.filter(series=given.get("series", "")).exists():
            self.add_error("series", _("A rule of this detector for these series already exists. Edit that one."))
        return given

    def typed(self) -> Rule:
        """Return the form as a value."""
        return Rule(self.rule.detector, id=self.rule.id, of_run=self.rule.of_run, **self._values())

    def save_to(self, row: AlertRule) -> None:
        """Store the form in a row."""
        for name, value in self._values().items():
            setattr(row, name, value)
        row.save()

    def _values(self) -> dict[str, Any]:
        given = {name: value for name, value in self.cleaned_data.items() if name in self.fields}
        unset = {"skip_batches": 0, "skip_from": 1, "factor_from": 1}
        return given | {name: given[name] or value for name, value in unset.items() if name in given}
