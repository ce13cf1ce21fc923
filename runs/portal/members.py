"""People: a user's projects, the members of a project, and the invites through which others join."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from runs.access import membership
from runs.access.membership import InviteUnusable, LastOwner
from runs.access.roles import membership_in
from runs.models import Membership, Project, Role


class ProjectForm(forms.Form):
    """A new project; if the slug is left empty, it is made from the name."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs={"class": "form-control"})
    )
    slug = forms.SlugField(
        label=gettext_lazy("Short name"),
        max_length=50,
        required=False,
        help_text=gettext_lazy(
            "Used in addresses and commands: letters, digits, - and _. By default, the short name is derived from "
            "the name."
        ),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"] or membership.free_slug(self.cleaned_data.get("name", ""))
        if Project.objects.filter(slug=slug).exists():
            raise forms.ValidationError(_("Another project already has this short name. Choose another one."))
        return slug


class InviteForm(forms.Form):
    """The role that an invite gives."""

    role = forms.ChoiceField(
        label=gettext_lazy("Role"), choices=Role.choices, widget=forms.Select(attrs={"class": "form-select"})
    )


class AccountForm(UserCreationForm[User]):
    """The account of an invited person."""

    full_name = forms.CharField(
        label=gettext_lazy("Full name"),
        max_length=150,
        help_text=gettext_lazy("Visible to the other members."),
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    field_order = ("username", "full_name", "password1", "password2")

    class Meta:
        model = User
        fields = ("username",)
        widgets = {"username": forms.TextInput(attrs={"autocomplete": "username"})}

    def save(self, commit: bool = True) -> User:
        # One field, because not every name has a first and a last part in this order.
        self.instance.first_name = self.cleaned_data["full_name"].strip()
        return super().save(commit)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def projects(request: HttpRequest) -> HttpResponse:
    """List the user's projects; staff can create new ones here, and become their owners."""
    assert isinstance(request.user, User)
    form = ProjectForm(request.POST or None)
    if request.method == "POST":
        if not request.user.is_staff:
            raise PermissionDenied(_("Only staff can create projects. Ask an administrator."))
        if form.is_valid():
            made = membership.create_project(form.cleaned_data["name"], form.cleaned_data["slug"], request.user)
            return redirect("members", made.slug)
    own = (
        Membership.objects.filter(user=request.user)
        .select_related("project")
        .annotate(
            members=Count("project__memberships", distinct=True),
            runs=Count("project__runs", distinct=True, filter=Q(project__runs__archived_at=None)),
        )
        .order_by("project__name")
    )
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "projects/list.html", {"memberships": own, "form": form}, status=status)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def members(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the members of a project; an owner creates an invite by POST, whose link is shown only this once."""
    own = membership_of(request, slug)
    project = own.project
    form = InviteForm(request.POST or None, initial={"role": Role.VIEWER})
    link, status = "", 200
    if request.method == "POST":
        _require_owner(own)
        assert isinstance(request.user, User)
        if form.is_valid():
            key = membership.invite(project, form.cleaned_data["role"], request.user)
            link = request.build_absolute_uri(reverse("invite", args=[key]))
        else:
            status = 422
    context = {
        "project": project,
        "own": own,
        "is_owner": own.role == Role.OWNER,
        "memberships": project.memberships.select_related("user").order_by("user__first_name", "user__username"),
        "roles": Role.choices,
        "invites": membership.open_invites(project) if own.role == Role.OWNER else [],
        "form": form,
        "link": link,
        "invite_role": Role(form.cleaned_data["role"]).label if link else "",
        "days": membership.INVITE_DAYS,
    }
    return render(request, "projects/members.html", context, status=status)


@login_required
@require_POST
def change_role(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Give a member another role."""
    own = membership_of(request, slug)
    project = own.project
    _require_owner(own)
    member = get_object_or_404(project.memberships.select_related("user"), pk=pk)
    role = request.POST.get("role", "")
    if role not in Role.values:
        messages.warning(request, _("Choose viewer, operator or owner."))
    else:
        _try(request, lambda: membership.change_role(member, role))
    return redirect("members", project.slug)


@login_required
@require_POST
def remove_member(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Remove a member from the project."""
    own = membership_of(request, slug)
    project = own.project
    _require_owner(own)
    member = get_object_or_404(project.memberships.select_related("user"), pk=pk)
    removed = _try(request, lambda: membership.remove(member))
    if removed and member.user_id == request.user.pk:
        return redirect("projects")
    return redirect("members", project.slug)


@login_required
@require_POST
def revoke_invite(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Revoke an invite that was not used yet."""
    own = membership_of(request, slug)
    project = own.project
    _require_owner(own)
    if not membership.revoke_invite(project, pk):
        messages.warning(request, _("The invite was already used or withdrawn."))
    return redirect("members", project.slug)


@sensitive_post_parameters("password1", "password2")
@require_http_methods(["GET", "HEAD", "POST"])
def accept_invite(request: HttpRequest, key: str) -> HttpResponse:
    """Let the holder of the link join, with the account of the session or with a new one."""
    try:
        found = membership.find_invite(key)
        user = request.user
        if isinstance(user, User):
            if request.method == "POST":
                membership.accept(key, user)
                return redirect("members", found.project.slug)
            return render(request, "projects/invite.html", {"invite": found, "key": key})
        form = AccountForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            with transaction.atomic():
                made = form.save()
                membership.accept(key, made)
            login(request, made, backend="runs.access.logins.PasswordBackend")
            return redirect("runs")
    except InviteUnusable as reason:
        return render(request, "projects/invite_unusable.html", {"reason": reason}, status=404)
    status = 422 if form.errors else 200
    return render(request, "projects/invite.html", {"invite": found, "key": key, "form": form}, status=status)


def membership_of(request: HttpRequest, slug: str) -> Membership:
    """Return the user's membership of a project; 404 for people outside it."""
    return membership_in(request.user, slug)


def _require_owner(own: Membership) -> None:
    if own.role != Role.OWNER:
        raise PermissionDenied(_("Only owners of the project can change its members."))


def _try(request: HttpRequest, change: Any) -> bool:
    try:
        change()
    except LastOwner as reason:
        messages.warning(request, str(reason))
        return False
    return True
