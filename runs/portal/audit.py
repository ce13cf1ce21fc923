"""The pages of the audit: of the installation for administrators, of a project for owners; both also as CSV."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from runs.audit.reading import Place, Wanted, audit_csv, audit_lines
from runs.models import AuditKind, Project, Role
from runs.portal.members import membership_of
from runs.series.downloads import csv_response

ENTRIES_A_PAGE = 50
DATE = {"class": "form-control", "type": "date"}
# Dates outside of these years would overflow, and no entry has one.
FIRST_YEAR, LAST_YEAR = 1970, 9998


class AuditFilter(forms.Form):
    """Kind, person, project and period in days of UTC; invalid values are ignored."""

    kind = forms.ChoiceField(
        required=False,
        label=gettext_lazy("What happened"),
        choices=[("", gettext_lazy("Everything")), *AuditKind.choices],
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    person = forms.CharField(
        required=False,
        max_length=150,
        label=gettext_lazy("Login name"),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    project = forms.ModelChoiceField(
        required=False,
        label=gettext_lazy("Project"),
        queryset=Project.objects.all(),
        to_field_name="slug",
        empty_label=gettext_lazy("All projects"),
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    since = forms.DateField(required=False, label=gettext_lazy("From (UTC)"), widget=forms.DateInput(DATE, "%Y-%m-%d"))
    until = forms.DateField(required=False, label=gettext_lazy("Until (UTC)"), widget=forms.DateInput(DATE, "%Y-%m-%d"))

    def wanted(self, project: Project | None) -> Wanted:
        """Return the filter of the valid choices, limited to `project` if it is given."""
        self.is_valid()
        chosen = self.cleaned_data
        since, until = (chosen.get(name) for name in ("since", "until"))
        return Wanted(
            kind=chosen.get("kind", ""),
            person=chosen.get("person", "").strip(),
            project=project or chosen.get("project"),
            since=_midnight(since) if since else None,
            until=_midnight(until) + timedelta(days=1) if until else None,
        )

    def clean_since(self) -> Any:
        return self._within("since")

    def clean_until(self) -> Any:
        return self._within("until")

    def _within(self, name: str) -> Any:
        day = self.cleaned_data[name]
        if day is not None and not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise forms.ValidationError(_("Choose a date between 1970 and 9998."))
        return day


@login_required
@require_safe
def audit(request: HttpRequest) -> HttpResponseBase:
    """Show administrators the audit of the whole installation."""
    if not request.user.has_perm("runs.view_auditentry"):
        raise PermissionDenied(
            _("Only administrators can see this audit log. Owners find the audit log of their project under Projects.")
        )
    return _answer(request, None)


@login_required
@require_safe
def project_audit(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Show owners the audit of their project, without addresses."""
    own = membership_of(request, slug)
    if own.role != Role.OWNER:
        raise PermissionDenied(_("Only owners of the project can see its audit log."))
    return _answer(request, own.project)


def _answer(request: HttpRequest, project: Project | None) -> HttpResponseBase:
    form = AuditFilter(request.GET)
    if project is not None:
        del form.fields["project"]
    wanted = form.wanted(project)
    if "csv" in request.GET:
        name = f"audit-{project.slug}.csv" if project else "audit.csv"
        return csv_response(request, name, audit_csv(wanted, with_address=project is None))
    found = audit_lines(wanted, Place.parse(request.GET.get("below", "")), ENTRIES_A_PAGE + 1)
    query = request.GET.copy()
    query.pop("below", None)
    context = {
        "project": project,
        "form": form,
        "entries": found[:ENTRIES_A_PAGE],
        "below": str(found[ENTRIES_A_PAGE - 1].place) if len(found) > ENTRIES_A_PAGE else "",
        "is_first": "below" not in request.GET,
        "query": query.urlencode(),
    }
    response: HttpResponse = render(request, "projects/audit.html", context)
    return response


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time(), UTC)
