"""Tags with which people mark and find runs."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.runs import Run

LONGEST_TAG = 40


class RunTag(models.Model):
    """One tag of one run, in the form of `runs.curation.tags.tag_name`. The tags of a project are those of its runs."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="tags", verbose_name=_("run"))
    name = models.CharField(_("tag"), max_length=LONGEST_TAG)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="one_tag_a_name")]
        indexes = [models.Index(fields=["name"], name="tag_by_name")]
        verbose_name = _("tag")
        verbose_name_plural = _("tags")

    def __str__(self) -> str:
        return self.name
