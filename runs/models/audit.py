"""The audit of changes to accounts, access and alerts. Its rows remain when their subjects are deleted."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class AuditKind(models.TextChoices):
    """The kind of an entry. `COMMAND` is not a row: commands are read from their own table."""

    LOGIN = "login", _("login")
    LOGIN_FAILED = "login_failed", _("login failed")
    LOCKED = "locked", _("login locked")
    LOGOUT = "logout", _("logout")
    SESSION_ENDED = "session_ended", _("session ended")
    PASSWORD_CHANGED = "password_changed", _("password changed")
    FACTOR_ADDED = "factor_added", _("second factor added")
    FACTOR_REMOVED = "factor_removed", _("second factor removed")
    FACTOR_RESET = "factor_reset", _("second factor reset")
    SIGN_ON_CONNECTED = "sign_on_connected", _("single sign-on connected")
    SIGN_ON_DISCONNECTED = "sign_on_disconnected", _("single sign-on disconnected")
    ACCOUNT_ADDED = "account_added", _("account made")
    ACCOUNT_CHANGED = "account_changed", _("account changed")
    ACCOUNT_DELETED = "account_deleted", _("account deleted")
    PROJECT_ADDED = "project_added", _("project made")
    PROJECT_CHANGED = "project_changed", _("project changed")
    PROJECT_DELETED = "project_deleted", _("project deleted")
    ROLE_GIVEN = "role_given", _("role given")
    ROLE_CHANGED = "role_changed", _("role changed")
    ROLE_TAKEN = "role_taken", _("role taken")
    INVITE_MADE = "invite_made", _("invite made")
    INVITE_USED = "invite_used", _("invite used")
    INVITE_REVOKED = "invite_revoked", _("invite withdrawn")
    TOKEN_MADE = "token_made", _("token made")
    TOKEN_USED = "token_used", _("token used first")
    TOKEN_REVOKED = "token_revoked", _("token revoked")
    SHARE_MADE = "share_made", _("share link made")
    SHARE_USED = "share_used", _("share link used first")
    SHARE_REVOKED = "share_revoked", _("share link revoked")
    RULE_ADDED = "rule_added", _("alert rule made")
    RULE_CHANGED = "rule_changed", _("alert rule changed")
    RULE_DELETED = "rule_deleted", _("alert rule deleted")
    DESTINATION_ADDED = "destination_added", _("alert destination made")
    DESTINATION_CHANGED = "destination_changed", _("alert destination changed")
    DESTINATION_DELETED = "destination_deleted", _("alert destination deleted")
    MAIL_ADDED = "mail_added", _("mail account set up")
    MAIL_CHANGED = "mail_changed", _("mail account changed")
    MAIL_DELETED = "mail_deleted", _("mail account deleted")
    TAGS_CHANGED = "tags_changed", _("tags changed")
    RUN_RENAMED = "run_renamed", _("run renamed")
    RUN_DESCRIBED = "run_described", _("run described")
    RUN_ARCHIVED = "run_archived", _("run archived")
    RUN_UNARCHIVED = "run_unarchived", _("run taken out of the archive")
    RUN_DELETED = "run_deleted", _("run deleted")
    VIEW_ADDED = "view_added", _("saved view made")
    VIEW_CHANGED = "view_changed", _("saved view changed")
    VIEW_DELETED = "view_deleted", _("saved view deleted")
    COMMAND = "command", _("command")


class AuditEntry(models.Model):
    """One recorded action. It stores names and numbers instead of foreign keys, because the rows may be deleted.

    `actor_name` is a login name, the command line, or empty if it is unknown. `person_name` is the affected person.
    `what` names the thing, `detail` contains a change such as "viewer → owner" or the names of changed fields. Neither
    secrets nor texts that an unknown visitor typed are stored.
    """

    at = models.DateTimeField(_("time"), default=timezone.now, db_index=True)
    kind = models.CharField(_("what happened"), max_length=30, choices=AuditKind)
    actor_name = models.CharField(_("by"), max_length=150, blank=True)
    actor_number = models.BigIntegerField(_("number of the account"), null=True, blank=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    person_name = models.CharField(_("person"), max_length=150, blank=True)
    person_number = models.BigIntegerField(_("number of the person"), null=True, blank=True)
    project_name = models.CharField(_("project"), max_length=100, blank=True)
    project_number = models.BigIntegerField(_("number of the project"), null=True, blank=True, db_index=True)
    run_number = models.BigIntegerField(_("run"), null=True, blank=True)
    what = models.CharField(_("name"), max_length=200, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} · {self.get_kind_display()} · {self.actor_name}"
