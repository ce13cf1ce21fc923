"""The page with the retention rules of a project for ended runs, which `manage.py prune` applies."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from runs.access.roles import membership_in
from runs.models import Project, Role


class KeepingForm(forms.ModelForm[Project]):
    """The retention rules of a project; an empty field keeps everything."""

    class Meta:
        model = Project
        fields = ("coarse_after_days", "checkpoint_epochs")
        widgets = {
            name: forms.NumberInput(attrs={"class": "form-control", "min": least, "inputmode": "numeric"})
            for name, least in (("coarse_after_days", 0), ("checkpoint_epochs", 1))
        }


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def keeping(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the rules of a project to its owners, and store changes by POST."""
    own = membership_in(request.user, slug)
    if own.role != Role.OWNER:
        raise PermissionDenied(_("Only owners of the project can change which data of its runs are kept."))
    project = own.project
    form = KeepingForm(request.POST or None, instance=Project.objects.get(pk=project.pk))
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Saved. The next pruning follows these rules."))
        return redirect("keeping", project.slug)
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "projects/keeping.html", {"project": project, "form": form}, status=status)
