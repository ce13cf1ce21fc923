"""The page of a project for its members, and the page on which owners change it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from runs.access.roles import COMMANDING_ROLES, membership_in
from runs.markdown.rendering import rendered
from runs.models import GoalDirection, Membership, Project, Role, Run
from runs.portal.project.facts import best_runs, goal_field, list_query, totals_of
from runs.portal.project.form import ProjectPageForm
from runs.portal.project.space import space_of
from runs.queueing.board import board

# More people are on the page of members.
MOST_PEOPLE = 24


@login_required
@require_safe
def project_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a project to its members.

    `?fragment=queue` gives the hosts alone, for refreshing, and `?fragment=space` what takes longer than the rest.
    """
    own = membership_in(request.user, slug)
    project, now = own.project, timezone.now()
    if request.GET.get("fragment") == "space":
        return render(request, "projects/space.html", {"space": space_of(project)})
    runs = Run.objects.filter(project=project, archived_at=None)
    # The queue is ordered in the list of runs.
    hosts = board(Run.objects.filter(project=project), (), now)
    may_command = own.role in COMMANDING_ROLES
    if request.GET.get("fragment") == "queue":
        return render(request, "runs/partials/queue.html", {"hosts": hosts, "may_command": may_command})
    goal = goal_field(project)
    people = project.memberships.select_related("user").order_by("user__first_name", "user__username")
    context = {
        "project": project,
        "own": own,
        "is_owner": own.role == Role.OWNER,
        "may_command": may_command,
        "description": rendered(project.description),
        "hosts": hosts,
        "goal": goal,
        "is_highest": project.goal_direction == GoalDirection.HIGHEST,
        "best": best_runs(runs, goal, project.goal_direction) if goal else [],
        "sorted_query": list_query(project, goal) if goal else "",
        "totals": totals_of(runs, project, now),
        "people": people[:MOST_PEOPLE],
        "people_count": Membership.objects.filter(project=project).count(),
    }
    return render(request, "projects/project.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit_project(request: HttpRequest, slug: str) -> HttpResponse:
    """Let owners change the description and the goal metric."""
    own = membership_in(request.user, slug)
    if own.role != Role.OWNER:
        raise PermissionDenied(_("Only owners of the project can change its page."))
    project = Project.objects.get(pk=own.project_id)
    form = ProjectPageForm(request.POST or None, project)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("The page of the project is saved."))
        return redirect("project", project.slug)
    status = 422 if form.is_bound and form.errors else 200
    # The instance has what was sent, also if it is refused.
    context = {"project": own.project, "form": form}
    return render(request, "projects/edit.html", context, status=status)
