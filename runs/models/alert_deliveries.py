"""Alert destinations, their mail accounts, and the messages that were sent."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from runs.models.alert_rules import Severity
from runs.models.alerts import Alert
from runs.models.projects import Project


class MailSecurity(models.TextChoices):
    TLS = "tls", _("TLS")
    STARTTLS = "starttls", _("STARTTLS")
    NONE = "none", _("none")


class MailAccount(models.Model):
    """The mail account that sends the alerts of a project, instead of the installation's own.

    `secret` is the password or authorization code, encrypted by `runs.alerts.sending.secrets`. An empty `sender` means
    `user`, as many mail servers require.
    """

    project = models.OneToOneField(Project, models.CASCADE, related_name="mail_account", verbose_name=_("project"))
    host = models.CharField(_("server"), max_length=200)
    port = models.PositiveIntegerField(_("port"), default=465)
    security = models.CharField(_("encryption"), max_length=10, choices=MailSecurity, default=MailSecurity.TLS)
    user = models.CharField(_("account"), max_length=200, blank=True)
    secret = models.TextField(blank=True)
    sender = models.EmailField(_("sender"), blank=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("changed by")
    )
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    class Meta:
        verbose_name = _("mail account")
        verbose_name_plural = _("mail accounts")

    def __str__(self) -> str:
        return f"{self.user or self.host} · {self.project}"


class DestinationKind(models.TextChoices):
    MAIL = "mail", _("mail")
    DINGTALK = "dingtalk", _("DingTalk robot")
    WECOM = "wecom", _("WeCom robot")
    SERVICE = "service", _("another service, by its Apprise address")


class AlertDestination(models.Model):
    """A destination that is notified of the alerts of a project.

    `secret` is the address, encrypted by `runs.alerts.sending.secrets`: the recipients of mail, otherwise a URL that
    contains keys. It is never shown again; members see `hint`. Links in messages act in the name of `person`; without
    one, the reader who opens a link logs in first.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="alert_destinations", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=100)
    kind = models.CharField(_("kind"), max_length=10, choices=DestinationKind, default=DestinationKind.MAIL)
    secret = models.TextField()
    hint = models.CharField(_("address"), max_length=100, blank=True)
    # The text that the filter of a robot requires in each message.
    keyword = models.CharField(_("keyword"), max_length=100, blank=True)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="alert_destinations",
        verbose_name=_("links act for"),
    )
    least_severity = models.CharField(_("least severity"), max_length=10, choices=Severity, default=Severity.WARNING)
    tells_cleared = models.BooleanField(_("also when cleared"), default=False)
    # In the time zone `quiet_zone`, which messages also use for times. During quiet hours only critical alerts are
    # sent; the others wait until the end.
    quiet_from = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_until = models.TimeField(_("quiet until"), null=True, blank=True)
    quiet_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    # The language of its messages; "" is the installation's.
    language = models.CharField(_("language"), max_length=10, blank=True)
    # Alerts of this many minutes are one message. 0: each is sent when it arrives, together with others that wait.
    digest_minutes = models.PositiveSmallIntegerField(_("digest interval in minutes"), default=0)
    is_on = models.BooleanField(_("on"), default=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("changed by")
    )
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    class Meta:
        ordering = ["project", "name", "id"]
        verbose_name = _("alert destination")
        verbose_name_plural = _("alert destinations")

    def __str__(self) -> str:
        return f"{self.name} · {self.project}"


class DeliveryMoment(models.TextChoices):
    BEGAN = "began", _("began")
    CLEARED = "cleared", pgettext_lazy("moment of an alert", "cleared")
    ROLLED_BACK = "rolled", _("after a rollback")


class DeliveryState(models.TextChoices):
    """`SENDING`: a sender has claimed it. If it dies, the claim expires and another sender sends the row."""

    WAITING = "waiting", _("waiting")
    SENDING = "sending", _("being sent")
    SENT = "sent", pgettext_lazy("state of a message", "sent")
    FAILED = "failed", _("failed")
    DROPPED = "dropped", _("not sent")


class AlertDelivery(models.Model):
    """One alert's message to one destination. Several rows may be sent as one message: they have the same `message`."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="deliveries", verbose_name=_("alert"))
    destination = models.ForeignKey(
        AlertDestination, models.CASCADE, related_name="deliveries", verbose_name=_("destination")
    )
    moment = models.CharField(_("moment"), max_length=10, choices=DeliveryMoment, default=DeliveryMoment.BEGAN)
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState, default=DeliveryState.WAITING)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    due_at = models.DateTimeField(_("due at"))
    tries = models.PositiveIntegerField(_("tries"), default=0)
    # The error of the last try, without secrets, or why it is not sent.
    error = models.CharField(_("error"), max_length=500, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    message = models.UUIDField(_("message"), null=True, blank=True)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "due_at"], name="delivery_by_due")]
        constraints = [
            models.UniqueConstraint(fields=["alert", "destination", "moment"], name="one_delivery_of_a_moment")
        ]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")

    def __str__(self) -> str:
        return f"{self.alert} → {self.destination.name}"


class UsedAlertLink(models.Model):
    """The SHA-256 of a used link of a message, so that each link acts once."""

    digest = models.CharField(max_length=64, primary_key=True)
    used_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
