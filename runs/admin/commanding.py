"""Sending a command from the admin: a person types it as on a command line, sees it as it will be sent, and confirms
it.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from runs.access.roles import COMMANDING_ROLES, display_name, role_of
from runs.admin.command_log import knob_rows
from runs.commands.legal_states import legal_states
from runs.commands.record import NotAllowed, knob_refusal, record
from runs.commands.typed import parse_words
from runs.models import CommandState, Run
from runs.protocol.commands import COMMANDS, LARGEST_EPOCH, LARGEST_INT, InvalidCommand, Request, parse_command
from steersman.marked_text import MarkedText

LARGEST_WORDS_CHARACTERS = 2200
FIELDS = {"reason": "reason", "expires_in_s": "expires_in_s", "id": "id"}


def may_send(user: Any, run: Run) -> bool:
    """Return whether a staff user may command a run: a superuser, or a member with that permission."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return False
    return user.is_superuser or role_of(user, run) in COMMANDING_ROLES


class CommandForm(forms.Form):
    """A command as typed text. `request` is the parsed command once the form is valid."""

    words = forms.CharField(
        label=_("command"),
        max_length=LARGEST_WORDS_CHARACTERS,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_("For example: set_knob learning_rate=0.001, set_knob learning_rate*=0.5, stop, note looks good."),
    )
    reason = forms.CharField(label=_("reason"), max_length=500, required=False, widget=UnfoldAdminTextInputWidget)
    at_step = forms.IntegerField(
        label=_("at step"), min_value=1, max_value=LARGEST_INT, required=False, widget=UnfoldAdminTextInputWidget
    )
    at_epoch = forms.IntegerField(
        label=_("at the end of epoch"),
        min_value=1,
        max_value=LARGEST_EPOCH,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    expires_in_s = forms.FloatField(
        label=_("expires after (s)"),
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("If empty, it never expires."),
    )
    # Created with the form, so that sending the form twice sends one command.
    id = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, run: Run, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.run = run
        self.request: Request | None = None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        at = {name: cleaned[f"at_{name}"] for name in ("step", "epoch") if cleaned.get(f"at_{name}") is not None}
        try:
            payload = parse_words(cleaned["words"].split(" "), self.run.knob_specs)
            payload |= {name: cleaned[name] for name in FIELDS if cleaned.get(name)}
            self.request = parse_command(payload | {"at": at})
        except InvalidCommand as error:
            fields = FIELDS | {"at": "at_step"}
            self.add_error(fields.get(error.field, "words"), str(error))
        return cleaned


class CommandsRuns(ModelAdmin):
    """The part of the admin of runs for commands."""

    def command_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Ask for a command, show it as it will be sent, and send it once it is confirmed."""
        run = Run.objects.select_related("project").filter(pk=run_id).first()
        if run is None:
            raise Http404
        if not self.has_view_permission(request, run) or not may_send(request.user, run):
            raise PermissionDenied
        posted = request.POST if request.method == "POST" else None
        form = CommandForm(run, posted)
        confirming = form.is_valid() and form.request is not None
        if confirming and form.request is not None:
            if request.POST.get("confirmed") == "yes":
                return self._send(request, run, form.request)
            data = request.POST.copy()
            data["id"] = str(form.request.id)
            form = CommandForm(run, data)
            form.full_clean()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Send a command to run %(run)s") % {"run": run},
            "run": run,
            "form": form,
            "asked": form.request if confirming else None,
            "asked_help": COMMANDS[form.request.command.kind].help if confirming and form.request else "",
            "commands": [
                (kind, command.help)
                for kind, command in COMMANDS.items()
                if run.state in legal_states(command, run) and not run.withholds(kind)
            ],
            "knobs": knob_rows(run),
        }
        return TemplateResponse(request, "admin/runs/run/command.html", context)

    def _send(self, request: HttpRequest, run: Run, asked: Request) -> HttpResponse:
        assert isinstance(request.user, User)
        try:
            command = record(
                run.pk,
                asked,
                author_id=request.user.pk,
                author_name=display_name(request.user),
                # People who may set the slots of hosts may also change the queue order of all projects.
                may_push=request.user.has_perm("runs.change_host"),
            )
        except NotAllowed as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run.pk]))
        command.refresh_from_db()
        if command.state == CommandState.REFUSED:
            # The command log stores the outcome in English; its author reads it in their language.
            refusal = knob_refusal(run, asked.command)
            is_of_knob = refusal is not None and str(refusal) == command.outcome
            said = refusal.said if refusal is not None and is_of_knob else MarkedText(command.outcome)
            text = gettext("The command was refused: %(reason)s") % {"reason": said.translated(gettext)}
            self.message_user(request, text, messages.ERROR)
        else:
            text = gettext("The command is recorded; its outcome is in the command log below.")
            self.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:runs_run_change", args=[run.pk]))
