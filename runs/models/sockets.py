"""How many sockets each web process holds, so that the others know."""

from __future__ import annotations

from django.db import models


class SocketCounts(models.Model):
    """The open sockets of one web process by key, such as {"all": 3, "user:1": 2, "link:7": 1}.

    The process writes it again from time to time. A process whose `written_at` no longer changes has died.
    """

    process = models.UUIDField(primary_key=True)
    counts = models.JSONField(default=dict)
    written_at = models.DateTimeField()
