"""The page that requests a run from an agent: the agents, their commands, and the form of one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.forms import BoundField
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from runs.agents.offers import NotOffered, agents_for, offered_by, request_run, specs_of
from runs.models import LONGEST_NAME, Agent
from runs.portal.new_run.parameter_fields import PREFIX, SpecField
from runs.recording.liveness import agent_is_living
from runs.recording.queue_places import WaitingRuns
from runs.recording.restart_policy import MOST_RESTARTS
from steersman.messages.agents import OfferedCommand
from steersman.spec import ValueSpec


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent as the page lists it; `waiting` is how many runs wait for it."""

    agent: Agent
    is_online: bool
    waiting: int
    commands: list[OfferedCommand]


class RequestForm(forms.Form):
    """A run of a command of an agent. The fields of its parameters are called `p-<name>`."""

    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        required=False,
        help_text=_("The name of the run. Leave empty to use the title of the command."),
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    restarts = forms.IntegerField(
        label=_("Restarts"),
        min_value=0,
        max_value=MOST_RESTARTS,
        initial=0,
        required=False,
        help_text=_("How often the run may restart from its newest checkpoint after a crash. 0: never."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )

    def __init__(self, specs: Mapping[str, ValueSpec], data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        self.names = list(specs)
        for name, spec in specs.items():
            self.fields[PREFIX + name] = SpecField(spec)

    @property
    def parameter_fields(self) -> list[BoundField]:
        return [self[PREFIX + name] for name in self.names]

    def values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[PREFIX + name] for name in self.names}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def run_on_agent(request: HttpRequest) -> HttpResponse:
    """Show the agents, or with `?agent=N&command=NAME` the form of a command; POST creates and queues a run."""
    assert isinstance(request.user, User)
    agents = agents_for(request.user)
    if "agent" not in request.GET:
        return render(request, "runs/agents.html", {"rows": _rows(agents)})
    agent = next((each for each in agents if str(each.pk) == request.GET["agent"]), None)
    command = _command(agent, request.GET.get("command", "")) if agent is not None else None
    if agent is None or command is None:
        raise Http404
    specs = specs_of(agent, command.name)
    form = RequestForm(specs, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            run = request_run(
                agent,
                command.name,
                form.values(),
                user=request.user,
                name=form.cleaned_data["name"],
                restarts=form.cleaned_data["restarts"] or 0,
            )
        except NotOffered as error:  # the agent offers other parameters since
            field = PREFIX + error.field
            form.add_error(field if field in form.fields else None, str(error))
        else:
            return redirect(run)
    context = {"form": form, "row": _rows([agent])[0], "command": command}
    return render(request, "runs/agent_run.html", context, status=422 if form.errors else 200)


def _command(agent: Agent, name: str) -> OfferedCommand | None:
    return next((each for each in offered_by(agent) if each.name == name), None)


def _rows(agents: Sequence[Agent]) -> list[AgentRow]:
    now = timezone.now()
    line = WaitingRuns(now=now) if agents else None
    return [
        AgentRow(
            agent,
            agent_is_living(agent, now),
            line.waiting_for_agent(agent.pk) if line is not None else 0,
            offered_by(agent),
        )
        for agent in agents
    ]
