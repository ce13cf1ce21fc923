"""Keys to runs and projects: tokens of scripts and of share links, and used tickets to the socket."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from runs.models.projects import Project
from runs.models.runs import Run


class TokenScope(models.TextChoices):
    """The permissions of a token's bearer.

    A share token is a link without login: it only views one run. One for metrics only reads `/metrics`.
    One for training hosts opens runs in its project, fetches the checkpoints that were pushed there, and reads nothing
    else.
    """

    VIEW = "view", _("view")
    COMMAND = "command", _("command")
    SHARE = "share", _("share")
    METRICS = "metrics", pgettext_lazy("scope of a token", "metrics")
    TRAIN = "train", pgettext_lazy("scope of a token", "train")


class AccessToken(models.Model):
    """A revocable key for scripts, or a share link: 256 random bits of which only the SHA-256 is stored.

    It never allows more than its creator may do now. Without `run` it is valid for the whole project.
    """

    name = models.CharField(_("name"), max_length=100)
    prefix = models.CharField(_("prefix"), max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(_("scope"), max_length=10, choices=TokenScope, default=TokenScope.VIEW)
    project = models.ForeignKey(Project, models.CASCADE, related_name="tokens", verbose_name=_("project"))
    run = models.ForeignKey(Run, models.CASCADE, null=True, blank=True, related_name="tokens", verbose_name=_("run"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class UsedTicket(models.Model):
    """The SHA-256 of a ticket that has opened a socket, so that it opens no second one."""

    digest = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField(db_index=True)
