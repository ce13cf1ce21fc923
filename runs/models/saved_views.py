"""Saved views of the list of runs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.projects import Project

LONGEST_VIEW_NAME = 60
LONGEST_VIEW_QUERY = 4000


class SavedView(models.Model):
    """Search, order and columns of the list of a project's runs, for all its members.

    `query` is the part of the list's address after `?`, without project and page. The address of a project without a
    query shows its default view.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="saved_views", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=LONGEST_VIEW_NAME)
    query = models.CharField(_("query"), max_length=LONGEST_VIEW_QUERY, blank=True)
    is_default = models.BooleanField(_("default"), default=False)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("changed by")
    )
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_view_a_name"),
            models.UniqueConstraint(
                fields=["project"], condition=models.Q(is_default=True), name="one_default_view_a_project"
            ),
        ]
        verbose_name = _("saved view")
        verbose_name_plural = _("saved views")

    def __str__(self) -> str:
        return self.name
