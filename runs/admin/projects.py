"""Projects, their members, and the published recipes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from runs.admin.forms import ChoosesRows
from runs.admin.readonly import OnlyShows
from runs.models import Membership, Project, Recipe


class MembershipInline(ChoosesRows, TabularInline):
    model = Membership
    extra = 0
    hide_title = True
    autocomplete_fields = ("user",)


@admin.register(Project)
class ProjectAdmin(ModelAdmin):
    list_display = ("name", "slug", "number_of_members", "number_of_runs", "created_at")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        queryset: QuerySet[Project] = super().get_queryset(request)
        return queryset.annotate(
            members_total=Count("memberships", distinct=True), runs_total=Count("runs", distinct=True)
        )

    @display(description=_("members"), ordering="members_total")
    def number_of_members(self, project: Any) -> int:
        return int(project.members_total)

    @display(description=_("runs"), ordering="runs_total")
    def number_of_runs(self, project: Any) -> int:
        return int(project.runs_total)


@admin.register(Membership)
class MembershipAdmin(ChoosesRows, ModelAdmin):
    list_display = ("user", "project", "role")
    list_filter = ("role", "project")
    list_select_related = ("user", "project")
    search_fields = ("user__username", "user__first_name", "user__last_name", "project__name")
    autocomplete_fields = ("user", "project")


@admin.register(Recipe)
class RecipeAdmin(OnlyShows):
    """Recipes are published by `manage.py recipes --publish`; this page only shows them."""

    list_display = ("spec", "title", "published_at")
    search_fields = ("spec", "title")
    fields = ("spec", "title", "description", "parameter_table", "source_sha256", "published_at")
    readonly_fields = ("parameter_table",)

    @display(description=_("parameters"))
    def parameter_table(self, recipe: Recipe) -> SafeString:
        return mark_safe(
            render_to_string("admin/runs/parameters.html", {"parameters": recipe.parameter_specs.values()})
        )
