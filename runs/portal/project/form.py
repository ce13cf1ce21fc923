"""The form in which owners describe a project and choose its goal metric."""

from __future__ import annotations

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from runs.models import Project, Run
from runs.portal.project.facts import GOALS
from runs.portal.run_table.columns import offers
from runs.selection.fields import field_of


class ProjectPageForm(forms.ModelForm[Project]):
    """Description, goal metric and its direction. The metrics are those of the newest runs, and the current one."""

    goal_metric = forms.ChoiceField(
        label=gettext_lazy("Goal metric"),
        required=False,
        help_text=gettext_lazy("The page of the project lists the runs with the best values."),
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    class Meta:
        model = Project
        fields = ("description", "goal_metric", "goal_direction")
        widgets = {
            "description": forms.Textarea(attrs={"class": "form-control", "rows": 12}),
            "goal_direction": forms.Select(attrs={"class": "form-select"}),
        }
        help_texts = {"description": gettext_lazy("Markdown: **bold**, lists, tables, [links](https://…), `code`.")}

    def __init__(self, data: QueryDict | None, instance: Project) -> None:
        super().__init__(data, instance=instance)
        field = self.fields["goal_metric"]
        assert isinstance(field, forms.ChoiceField)
        present = field_of(instance.goal_metric)
        groups = offers(Run.objects.filter(project=instance), [present] if present else [])
        choices = [(title, [(offer.key, offer.title) for offer in group]) for title, group in groups]
        metrics = [(title, [each for each in group if each[0].startswith(GOALS)]) for title, group in choices]
        field.choices = [("", _("none")), *((title, group) for title, group in metrics if group)]
