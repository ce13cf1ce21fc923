"""The page on which tokens of a project are created, listed and revoked."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from runs.access.roles import COMMANDING_ROLES, operators_only
from runs.access.tokens import TokenRefused, create_token, may_revoke, revoke
from runs.models import AccessToken, Membership, Project, Role, Run, TokenScope
from runs.portal.members import membership_of

MOST_TOKENS_SHOWN = 200
LIFETIMES = [
    ("1", gettext_lazy("1 day")),
    ("7", gettext_lazy("7 days")),
    ("30", gettext_lazy("30 days")),
    ("365", gettext_lazy("1 year")),
    ("", gettext_lazy("never expires")),
]


class LifetimeForm(forms.Form):
    """A period of validity; if it is empty, the token does not expire."""

    days = forms.ChoiceField(
        label=gettext_lazy("Valid for"),
        choices=LIFETIMES,
        required=False,
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    def expiry(self) -> datetime | None:
        days = self.cleaned_data.get("days")
        return timezone.now() + timedelta(days=int(days)) if days else None


class TokenForm(LifetimeForm):
    """A token for scripts."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        help_text=gettext_lazy("What the token is for. Shown beside your name when the token is used."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    scope = forms.ChoiceField(
        label=pgettext_lazy("token", "May"),
        choices=[
            (TokenScope.VIEW, gettext_lazy("view")),
            (TokenScope.COMMAND, gettext_lazy("view and command")),
            (TokenScope.METRICS, gettext_lazy("read metrics, for Prometheus")),
            (TokenScope.TRAIN, gettext_lazy("open runs from training hosts")),
        ],
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    run = forms.IntegerField(
        label=gettext_lazy("Only for run"),
        required=False,
        min_value=1,
        help_text=gettext_lazy("The number of one run. Leave empty for all runs of the project."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    field_order = ("name", "scope", "run", "days")

    def __init__(self, *args: object, project: Project, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.project = project

    def clean_run(self) -> Run | None:
        number = self.cleaned_data["run"]
        if number is None:
            return None
        run = Run.objects.filter(pk=number, project=self.project).first() if number < 2**63 else None
        if run is None:
            raise forms.ValidationError(_("This project has no such run."))
        return run


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest, slug: str) -> HttpResponse:
    """Show owners the project's tokens, others only their own; POST creates one, and only then shows its value."""
    own = membership_of(request, slug)
    may_make = own.role in COMMANDING_ROLES
    new_form = TokenForm(project=own.project, initial={"days": "30", "scope": TokenScope.VIEW})
    form, value, status = new_form, "", 200
    if request.method == "POST":
        if not may_make:
            raise PermissionDenied(operators_only())
        form = TokenForm(request.POST, project=own.project)
        value = _create(own, form) if form.is_valid() else ""
        form, status = (new_form, 200) if value else (form, 422)
    context = {
        "project": own.project,
        "is_owner": own.role == Role.OWNER,
        "may_make": may_make,
        "form": form,
        "value": value,
        "tokens": listed_tokens(own)[:MOST_TOKENS_SHOWN],
        "now": timezone.now(),
    }
    return render(request, "projects/tokens.html", context, status=status)


@login_required
@require_POST
def revoke_token(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Revoke a token or share link, and return to the page that listed it."""
    own = membership_of(request, slug)
    token = get_object_or_404(own.project.tokens, pk=pk)
    assert isinstance(request.user, User)
    if not may_revoke(request.user, own.role, token):
        raise PermissionDenied(
            _("Owners can revoke every token of the project. Other members can revoke only their own.")
        )
    revoke(token)
    if "share" in request.POST and token.run_id is not None:
        return redirect("share_run", token.run_id)
    return redirect("tokens", own.project.slug)


def listed_tokens(own: Membership) -> QuerySet[AccessToken]:
    """Return the tokens that a member may see: for an owner all of the project, for others their own.

    Valid ones first.
    """
    tokens = own.project.tokens.select_related("created_by", "run")
    tokens = tokens.order_by(F("revoked_at").asc(nulls_first=True), "-created_at", "-pk")
    return tokens if own.role == Role.OWNER else tokens.filter(created_by_id=own.user_id)


def _create(own: Membership, form: TokenForm) -> str:
    chosen = form.cleaned_data
    try:
        _, value = create_token(
            own.user,
            own.project,
            chosen["scope"],
            name=chosen["name"],
            run=chosen["run"],
            expires_at=form.expiry(),
        )
    except TokenRefused as reason:
        form.add_error(reason.field if reason.field in form.fields else None, str(reason))
        return ""
    return value
