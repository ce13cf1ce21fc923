"""Measurements of each web process, so that any of them can report the sums to Prometheus."""

from __future__ import annotations

from django.db import models


class PortalReport(models.Model):
    """The report of one web process: `counts` is a `runs.protocol.reports.PortalCounts`, `levels` a `PortalLevels`.

    `counts` of processes that ended long ago are summed up in the row with the id 0. `levels` count only while
    `written_at`, a time of the database's clock, is recent.
    """

    process = models.UUIDField(primary_key=True)
    counts = models.JSONField(default=dict)
    levels = models.JSONField(default=dict)
    written_at = models.DateTimeField()
