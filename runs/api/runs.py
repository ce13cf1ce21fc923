"""Runs, their tags and their epochs."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from runs.access.roles import COMMANDING_ROLES, display_name, operators_only
from runs.api.answers import with_query
from runs.api.branching.answers import as_out
from runs.api.callers import TRAINERS, caller_of, commanded_run, train_token_only, visible_run
from runs.api.errors import ApiError
from runs.api.history import about_as_wire
from runs.api.launching.schemas import LaunchBody, LaunchOut
from runs.api.listing.narrowing import BadSearch, find_view, of_view, searched
from runs.api.listing.schemas import SavedViewIn, SavedViewOut, SavedViewsPage
from runs.api.schemas.curation import AboutIn, SeveralIn, SeveralOut, TagsIn, TagsOut
from runs.api.schemas.errors import ErrorOut
from runs.api.schemas.page import AboutOut
from runs.api.schemas.runs import EpochsPage, RunDetailOut, RunsPage
from runs.branching.family import branch_of
from runs.curation.about import BadAbout, change_about
from runs.curation.saved_views import BadView, save_view
from runs.curation.several import Action, Outcome, RequestedAction, do_to_each
from runs.curation.tags import BadTag, change_tags, tag_name
from runs.launches.opening import NotAllowedToOpen, NotOpened, OtherProject, open_launch
from runs.live.snapshot import epoch_as_wire, latest_values
from runs.models import LARGEST_ID, Membership, Project, Run, RunQuerySet, RunState, SavedView
from runs.recording.liveness import duration_of, gpu_hours_of, silent
from runs.recording.queue_places import QueuePlace, place_of, places_of
from runs.selection.search import LONGEST_SEARCH

router = Router(tags=["runs"])
views = Router(tags=["saved views"])
MOST_NAMES = 64
ERRORS = {401: ErrorOut, 404: ErrorOut, 422: ErrorOut}


@router.get("/", response={200: RunsPage, **ERRORS}, summary="Runs, newest first")
def list_runs(
    request: HttpRequest,
    state: RunState | None = None,
    project: str | None = Query(None, description="Slug of a project"),
    tag: str | None = Query(None, description="Only runs with this tag"),
    q: str = Query(
        "", max_length=LONGEST_SEARCH, description="A search, in the syntax of the list of runs: words, lr < 0.1, #12"
    ),
    view: int | None = Query(None, ge=1, le=LARGEST_ID, description="Id of a saved view: return only its runs"),
    after: int | None = Query(
        None, ge=1, le=LARGEST_ID, description="Start of a page: the value in `next` of the preceding page"
    ),
    limit: int = Query(50, ge=1, le=200),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    """The runs of projects that the caller belongs to, without archived ones.

    `next` is the address of the page that follows. Its pages repeat and leave out no run that was there at the
    beginning, whatever is created and deleted meanwhile. Of a view its search, state and archive are used.
    """
    runs = _of_view(request, view) if view is not None else caller_of(request).runs().filter(archived_at=None)
    if state is not None:
        runs = runs.filter(state=state)
    if project is not None:
        if not Project.objects.filter(slug=project, memberships__user=caller_of(request).user).exists():
            raise ApiError(404, _("There is no such project, or you are not a member of it."), "project")
        runs = runs.filter(project__slug=project)
    if tag is not None:
        runs = runs.filter(tags__name__in=_tag_names([tag], "tag"))
    try:
        runs = searched(runs, q, caller_of(request).user)
    except BadSearch as error:
        raise ApiError(422, str(error), "q") from error
    page = runs if after is None else runs.filter(pk__lt=after)
    page = page.select_related("project", "recipe", "created_by").prefetch_related("tags").order_by("-pk")
    found = list(page[offset : offset + limit + 1])
    following = with_query(request, after=str(found[limit - 1].pk), offset=None) if len(found) > limit else None
    waiting = places_of(found[:limit], caller_of(request).runs())
    items = [as_item(run, waiting.get(run.pk)) for run in found[:limit]]
    return {"count": runs.count(), "items": items, "next": following}


def _of_view(request: HttpRequest, pk: int) -> RunQuerySet:
    caller = caller_of(request)
    view = find_view(pk, caller)
    if view is None:
        raise ApiError(
            404, _("There is no such saved view, or this user or token has no access to its project."), "view"
        )
    try:
        return of_view(caller.runs(), view, caller.user)
    except BadSearch as error:
        raise ApiError(422, str(error), "view") from error


@views.get("/{slug:slug}/views/", response={200: SavedViewsPage, **ERRORS}, summary="Saved views of a project")
def list_views(request: HttpRequest, slug: str) -> dict[str, Any]:
    """Search, order, columns and groups of the list of runs, by name."""
    found = [_view_as_out(view) for view in _membership(request, slug).project.saved_views.select_related("changed_by")]
    return {"count": len(found), "items": found}


@views.post(
    "/{slug:slug}/views/", response={200: SavedViewOut, 403: ErrorOut, **ERRORS}, summary="Save a view of a project"
)
def save_project_view(request: HttpRequest, slug: str, body: SavedViewIn) -> dict[str, Any]:
    """For operators and owners. A view of the same name is replaced; all members of the project see it."""
    own = _commanding_membership(request, slug)
    try:
        view = save_view(own.project, body.name, body.query, is_default=body.default, user=own.user)
    except BadView as error:
        raise ApiError(422, str(error), error.field) from error
    return _view_as_out(view)


@views.post(
    "/{slug:slug}/views/{int:view_id}/delete/",
    response={200: SavedViewsPage, 403: ErrorOut, **ERRORS},
    summary="Delete a view of a project",
)
def delete_project_view(request: HttpRequest, slug: str, view_id: int) -> dict[str, Any]:
    """For operators and owners. The runs stay. Returns the views that are left."""
    view = _commanding_membership(request, slug).project.saved_views.filter(pk=view_id).first()
    if view is None:
        raise ApiError(404, _("There is no such saved view in this project."), "view_id")
    view.delete()
    return list_views(request, slug)


def _membership(request: HttpRequest, slug: str) -> Membership:
    own = caller_of(request).membership(slug)
    if own is None:
        raise ApiError(404, _("There is no such project, or you are not a member of it."), "slug")
    return own


def _commanding_membership(request: HttpRequest, slug: str) -> Membership:
    own = _membership(request, slug)
    if own.role not in COMMANDING_ROLES or not caller_of(request).may_change:
        raise ApiError(403, operators_only())
    return own


def _view_as_out(view: SavedView) -> dict[str, Any]:
    return {
        "id": view.pk,
        "name": view.name,
        "query": view.query,
        "default": view.is_default,
        "changed_by": display_name(view.changed_by) if view.changed_by else "",
        "changed_at": view.changed_at,
    }


@router.post(
    "/",
    auth=list(TRAINERS),
    response={200: LaunchOut, 201: LaunchOut, 401: ErrorOut, 403: ErrorOut, 409: ErrorOut, 422: ErrorOut},
    summary="Open the run of a training host",
)
def open_run(request: HttpRequest, body: LaunchBody) -> Status[dict[str, Any]]:
    """For tokens with the scope `train`. 201 if an attempt was opened, 200 if this start already has one."""
    token = caller_of(request).token
    if token is None:
        raise ApiError(403, train_token_only(), "Authorization")
    try:
        opened = open_launch(token, body.launch())
    except NotAllowedToOpen as error:
        raise ApiError(403, str(error)) from error
    except OtherProject as error:
        raise ApiError(403, str(error), "project") from error
    except NotOpened as error:
        raise ApiError(409, str(error), "key") from error
    page = request.build_absolute_uri(opened.run.get_absolute_url())
    answer = {"run": opened.run.pk, "attempt": opened.attempt, "page": page}
    answer |= {"is_new_run": opened.is_new_run, "is_new_attempt": opened.is_new_attempt}
    return Status(201 if opened.is_new_attempt else 200, answer)


@router.get("/{int:run_id}/", response={200: RunDetailOut, **ERRORS}, summary="One run")
def one_run(request: HttpRequest, run_id: int) -> dict[str, Any]:
    run = visible_run(request, run_id)
    viewer = caller_of(request).viewer(run)
    return as_item(run, place_of(run, caller_of(request).runs())) | {
        "parameters": run.parameters,
        "device": run.device,
        "seed": run.seed,
        "deterministic": run.deterministic,
        "ranks": run.ranks,
        "start_paused": run.start_paused,
        "extra_epochs": run.extra_epochs,
        "offers": run.offers,
        "restarts": run.restarts,
        "restarts_used": run.restarts_used,
        "usual_step_s": run.usual_step_s,
        "stalled_since": run.stalled_since,
        "not_looking_since": run.not_looking_since,
        "last_seq": run.last_seq,
        "latest": latest_values(run),
        "role": viewer.role if viewer else "",
        "may": viewer.may if viewer else [],
        "branch": as_out(branch, caller_of(request)) if (branch := branch_of(run)) else None,
    }


@router.get(
    "/{int:run_id}/epochs/",
    url_name="epochs",
    response={200: EpochsPage, **ERRORS},
    summary="Epochs of a run, in order",
)
def list_epochs(
    request: HttpRequest,
    run_id: int,
    name: Annotated[list[str], Query(max_length=MOST_NAMES, description="Only these values; can be repeated")] = [],  # noqa: B006
    limit: int = Query(200, ge=1, le=1000),
    offset: int = Query(0, ge=0, le=10**9),
) -> dict[str, Any]:
    """Epochs that were trained or logged again appear once, with the values of the last time."""
    epochs = visible_run(request, run_id).epochs.counted().order_by("epoch", "attempt", "order")
    items = [epoch_as_wire(epoch) | {"at": epoch.at} for epoch in epochs[offset : offset + limit]]
    if name:
        for item in items:
            for part in ("values", "nonfinite"):
                item[part] = {key: value for key, value in item[part].items() if key in name}
    return {"count": epochs.count(), "items": items}


@router.post(
    "/{int:run_id}/tags/",
    url_name="tags",
    response={200: TagsOut, 403: ErrorOut, **ERRORS},
    summary="Add and remove tags of a run",
)
def tag_run(request: HttpRequest, run_id: int, body: TagsIn) -> dict[str, Any]:
    """For operators and owners. A tag has up to 40 characters, no comma and no quotation mark."""
    run = commanded_run(request, run_id)
    add, remove = _tag_names(body.add, "add"), _tag_names(body.remove, "remove")
    try:
        return {"tags": change_tags(run.pk, add, remove)}
    except BadTag as error:
        raise ApiError(422, str(error), "add") from error


@router.post(
    "/{int:run_id}/about/",
    url_name="about",
    response={200: AboutOut, 403: ErrorOut, **ERRORS},
    summary="Rename a run, describe or review it",
)
def write_about_run(request: HttpRequest, run_id: int, body: AboutIn) -> dict[str, Any]:
    """For operators and owners."""
    run = commanded_run(request, run_id)
    try:
        change_about(run.pk, body.name, body.description, review=body.review, reviewer=caller_of(request).user)
    except BadAbout as error:
        raise ApiError(422, str(error), error.field) from error
    return about_as_wire(run.pk)


@router.post(
    "/several/", url_name="several", response={200: SeveralOut, **ERRORS}, summary="Tag, stop, archive or delete runs"
)
def change_several(request: HttpRequest, body: SeveralIn) -> Outcome:
    """For operators and owners; only owners can delete, and not with a token. Each run is changed separately.

    A run whose state does not allow the action is left out, with the reason in the answer.
    """
    add, remove = _tag_names(body.add, "add"), _tag_names(body.remove, "remove")
    if body.action is Action.TAG and not add and not remove:
        raise ApiError(422, _("Give at least one tag to add or to remove."), "add")
    return do_to_each(body.runs, RequestedAction(body.action, add, remove, body.reason), caller_of(request))


def _tag_names(texts: list[str], field: str) -> list[str]:
    try:
        return [tag_name(text) for text in texts]
    except BadTag as error:
        raise ApiError(422, str(error), field) from error


def as_item(run: Run, place: QueuePlace | None) -> dict[str, Any]:
    now = timezone.now()
    duration = duration_of(run, now)
    return {
        "id": run.pk,
        "name": run.name,
        "project": {"slug": run.project.slug, "name": run.project.name},
        "recipe": run.recipe.spec if run.recipe else "",
        "state": str(run.state),
        "reason": run.reason,
        "place": place.as_wire() if place else None,
        "silent": silent(run, now),
        "attempt": run.attempt,
        "tags": [tag.name for tag in run.tags.all()],
        "created_by": display_name(run.created_by) if run.created_by else "",
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_s": duration.total_seconds() if duration is not None else None,
        "gpu_hours": gpu_hours_of(run, now),
        "last_point_at": run.last_point_at,
        "step": run.step,
        "total_steps": run.total_steps,
        "epoch": run.epoch,
        "total_epochs": run.total_epochs,
        "best_metric": run.best_metric,
        "best_metric_name": run.best_metric_name,
        "best_epoch": run.best_epoch,
    }
