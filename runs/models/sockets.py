"""The open sockets of each web process, as the other processes read them."""

from __future__ import annotations

from django.db import models


class SocketCounts(models.Model):
    """The open sockets of one web process by key, such as {"all": 3, "user:1": 2, "link:7": 1}, and watchers.

    `watchers` are `runs.protocol.reports.RunWatchers` by the run's number. The process rewrites the row from time to
    time with a higher `beat`; if `beat` no longer changes, the process has died.
    """

    process = models.UUIDField(primary_key=True)
    counts = models.JSONField(default=dict)
    watchers = models.JSONField(default=dict)
    beat = models.PositiveBigIntegerField(default=0)
    written_at = models.DateTimeField()
