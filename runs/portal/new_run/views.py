"""Starting a run from the page: the form of a new run, and queueing and withdrawing runs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from runs.access.roles import commanded_run, viewer_of
from runs.commands.record import record_as
from runs.models import LARGEST_ID, CommandState, Recipe, Run
from runs.portal.new_run.device_choices import choice_value
from runs.portal.new_run.form import StartForm, size_text, startable_projects
from runs.portal.new_run.parameter_fields import PREFIX, SpecField
from runs.protocol.commands import MoveToFront, Request, StartAnyway, Withdraw
from runs.recording.queue import NotQueueable, enqueue, home_of
from steersman.marked_text import MarkedText

LINE_COMMANDS = {each.kind: each() for each in (Withdraw, MoveToFront, StartAnyway)}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_run(request: HttpRequest) -> HttpResponse:
    """Show the form (`?recipe=spec`, `?clone=N`); create a run, and queue it if that button was pressed."""
    assert isinstance(request.user, User)
    recipes = list(Recipe.objects.all())
    if not recipes or not startable_projects(request.user).exists():
        return render(request, "runs/new_run_not_yet.html", {"recipes": recipes})
    if request.method != "POST":
        return _show(request, _from_address(request, request.user, recipes))
    chosen = next((recipe for recipe in recipes if recipe.spec == request.POST.get("recipe")), recipes[0])
    shown = request.POST.get("shown", chosen.spec)
    if "switch" in request.POST or shown != chosen.spec:
        if "switch" not in request.POST:
            messages.warning(request, _("You chose another recipe. Check its parameters, then continue."))
        before = next((recipe for recipe in recipes if recipe.spec == shown), None)
        return _show(request, StartForm(user=request.user, recipe=chosen, initial=_kept(request, before, chosen)))
    form = StartForm(request.POST, user=request.user, recipe=chosen)
    if not form.is_valid():
        return _show(request, form, 422)
    if form.awaited and "queue" not in request.POST:
        form.add_error(
            "after", _("Only a queued run can wait for another run. Press Queue, or leave this field empty.")
        )
        return _show(request, form, 422)
    with transaction.atomic():
        run, host = form.save()
        if "queue" in request.POST:
            enqueue(run.pk, host, after=form.awaited, among=Run.objects.visible_to(request.user))
    return redirect(run)


@login_required
@require_POST
def queue_run(request: HttpRequest, pk: int) -> HttpResponse:
    """Queue a run that was created, or resume one that ended, on the host with its checkpoints."""
    run = _commanded(request, pk)
    try:
        enqueue(run.pk, home_of(run))
    except NotQueueable as reason:
        messages.warning(request, str(reason))
    return redirect(run)


@login_required
@require_POST
def in_queue(request: HttpRequest, pk: int) -> HttpResponse:
    """Apply a command to a queued run: `command` is one of `LINE_COMMANDS`; `from_list` returns to the list."""
    run = _commanded(request, pk)
    viewer = viewer_of(request.user, run)
    command = LINE_COMMANDS.get(request.POST.get("command", ""))
    if viewer is None or command is None:
        raise Http404
    recorded = record_as(run.pk, Request(id=uuid4(), command=command), viewer)
    recorded.refresh_from_db()
    if recorded.state == CommandState.REFUSED:
        messages.warning(request, MarkedText(recorded.outcome).translated(_))
    return redirect("runs") if "from_list" in request.POST else redirect(run)


def _commanded(request: HttpRequest, pk: int) -> Run:
    """Return the run if the user may command it: 404 for people outside the project, 403 for viewers."""
    return commanded_run(request.user, pk)


def _show(request: HttpRequest, form: StartForm, status: int = 200) -> HttpResponse:
    clone = form["clone"].value()
    source = Run.objects.visible_to(request.user).filter(pk=clone).first() if str(clone or "").isdecimal() else None
    return render(request, "runs/new_run.html", {"form": form, "source": source}, status=status)


def _from_address(request: HttpRequest, user: User, recipes: list[Recipe]) -> StartForm:
    """Return an empty form, or one filled from the query of the address."""
    number = request.GET.get("clone", "")
    if number.isdecimal() and int(number[:20]) <= LARGEST_ID:
        source = Run.objects.visible_to(user).select_related("recipe", "project").filter(pk=int(number)).first()
        if source is not None and source.recipe is not None:
            return StartForm(user=user, recipe=source.recipe, initial=_cloned(request, source))
        if source is None:
            text = _("There is no run %(number)d, or you are not a member of its project: it cannot be cloned.")
        else:
            text = _("Run %(number)d trains a script, not a recipe, and cannot be cloned: start its script again.")
        messages.warning(request, text % {"number": int(number)})
    spec = request.GET.get("recipe", "")
    recipe = next((row for row in recipes if row.spec == spec), recipes[0])
    return StartForm(user=user, recipe=recipe, initial={"recipe": recipe.spec, "project": request.GET.get("project")})


def _cloned(request: HttpRequest, source: Run) -> dict[str, Any]:
    assert source.recipe is not None
    declared = source.recipe.parameter_specs
    gone = sorted(set(source.parameters) - set(declared))
    if gone:
        text = _("The recipe no longer declares %(names)s, so they are left out.")
        messages.warning(request, text % {"names": ", ".join(gone)})
    parameters = {PREFIX + name: value for name, value in source.parameters.items() if name in declared}
    return parameters | {
        "project": source.project.slug,
        "recipe": source.recipe.spec,
        "name": source.name,
        "seed": source.seed,
        "deterministic": source.deterministic,
        "start_paused": source.start_paused,
        "restarts": source.restarts,
        "ranks": source.ranks,
        "place": choice_value(home_of(source), source.device),
        "gpu_memory": size_text(source.gpu_memory_mib),
        "clone": source.pk,
    }


def _kept(request: HttpRequest, before: Recipe | None, chosen: Recipe) -> dict[str, Any]:
    """Return the typed values for the form of another recipe; fields that were not changed get its defaults."""
    texts = (
        "project", "name", "tags", "seed", "restarts", "ranks", "place", "clone", "after", "after_condition",
        "gpu_memory",
    )  # fmt: skip
    kept: dict[str, Any] = {name: request.POST.get(name, "") for name in texts}
    kept |= {"recipe": chosen.spec} | {name: name in request.POST for name in ("deterministic", "start_paused")}
    declared = chosen.parameter_specs
    for name, spec in before.parameter_specs.items() if before else ():
        # The control interprets missing fields, as a browser sends nothing for an unchecked box.
        typed = SpecField(spec).widget.value_from_datadict(request.POST, request.FILES, PREFIX + name)
        if name in declared and typed is not None and (spec.default is None or typed != spec.default_text):
            kept[PREFIX + name] = typed
    return kept
