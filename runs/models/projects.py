"""Projects, their members and roles, and invites."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

# Series of a project that /metrics returns in addition to the default ones.
MOST_MARKS = 50
LONGEST_MARK = 200
# The number of charts of a project that can be pinned for everybody.
MOST_PINS = 50
# Limits of the retention rules for ended runs.
MOST_DAYS = 36_500
MOST_EPOCHS = 1_000_000
LONGEST_DESCRIPTION = 20_000
# As long as the name of a series, with its prefix.
LONGEST_GOAL = 210


def validate_marks(text: str) -> None:
    """Raise `ValidationError` if `text` contains too many names of series, or one that is invalid or too long."""
    names = _lines(text)
    if len(names) > MOST_MARKS:
        raise ValidationError(_("Give at most %(most)d names.") % {"most": MOST_MARKS})
    for name in names:
        if len(name) > LONGEST_MARK:
            raise ValidationError(_("A name has at most %(most)d characters.") % {"most": LONGEST_MARK})
        if "*" in name[:-1] or name == "*":
            raise ValidationError(
                _("%(name)s: an asterisk is allowed only at the end, after at least one character.") % {"name": name}
            )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


class Role(models.TextChoices):
    """The permissions of a member. Order matters: each role includes the ones before it."""

    VIEWER = "viewer", _("viewer")
    OPERATOR = "operator", _("operator")
    OWNER = "owner", _("owner")


class GoalDirection(models.TextChoices):
    """Which values of a project's goal metric are the good ones."""

    LOWEST = "min", _("lowest is best")
    HIGHEST = "max", _("highest is best")


class Project(models.Model):
    """A team's collection of runs."""

    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(_("slug"), unique=True)
    # In Markdown.
    description = models.TextField(_("description"), blank=True, validators=[MaxLengthValidator(LONGEST_DESCRIPTION)])
    # The key of a field of `runs.selection.fields`, such as last:val/accuracy.
    goal_metric = models.CharField(_("goal metric"), max_length=LONGEST_GOAL, blank=True)
    goal_direction = models.CharField(_("goal"), max_length=3, choices=GoalDirection, default=GoalDirection.LOWEST)
    metric_series = models.TextField(
        _("series for Prometheus"),
        blank=True,
        validators=[validate_marks],
        help_text=_(
            "Names of series that /metrics returns in addition to loss, accuracy, learning rate and gradient norm: "
            "one per line; an asterisk at the end stands for any text."
        ),
    )
    coarse_after_days = models.PositiveIntegerField(
        _("days until points are thinned"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_DAYS)],
        help_text=_(
            "This many days after a run has ended, pruning keeps one point per 100 steps, and the lowest and highest "
            "value of these steps. Leave empty to keep all points."
        ),
    )
    checkpoint_epochs = models.PositiveIntegerField(
        _("epochs between checkpoints that are kept"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_EPOCHS)],
        help_text=_(
            "After a run has ended, pruning keeps its newest and its best checkpoint, all named and marked "
            "checkpoints, and the last checkpoint of each group of this many epochs. Leave empty to keep all "
            "checkpoints."
        ),
    )
    # Names of charts in the order in which they were pinned.
    pinned_charts = models.JSONField(_("pinned charts"), default=list, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="projects")

    class Meta:
        ordering = ["name"]
        verbose_name = _("project")
        verbose_name_plural = _("projects")

    def __str__(self) -> str:
        return self.name

    def pin_chart(self, chart: str, pinned: bool) -> None:
        """Pin a chart on the pages of all runs, or unpin it.

        Raises `ValidationError` if there are already `MOST_PINS`.
        """
        with transaction.atomic():
            # Locked and read again, because two people may pin at the same moment.
            pins: list[str] = Project.objects.select_for_update().get(pk=self.pk).pinned_charts
            others = [name for name in pins if name != chart]
            if pinned and len(others) >= MOST_PINS:
                raise ValidationError(
                    _("A project has at most %(most)d pinned charts: unpin one first.") % {"most": MOST_PINS}
                )
            self.pinned_charts = pins if pinned and chart in pins else [*others, *([chart] if pinned else [])]
            self.save(update_fields=["pinned_charts"])

    @property
    def marked_series(self) -> list[str]:
        """Return the names in `metric_series`; one may end with an asterisk."""
        return _lines(self.metric_series)


class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships", verbose_name=_("project"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships", verbose_name=_("user")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role, default=Role.VIEWER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_a_project")]
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")

    def __str__(self) -> str:
        return f"{self.user} · {self.project} · {self.get_role_display()}"


class Invite(models.Model):
    """A link with which one person can join a project; only the SHA-256 of its key is stored."""

    digest = models.CharField(max_length=64, unique=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="invites", verbose_name=_("project"))
    role = models.CharField(_("role"), max_length=10, choices=Role, default=Role.VIEWER)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="invites", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"))
    used_at = models.DateTimeField(_("used at"), null=True, blank=True)
    used_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="used_invites",
        verbose_name=_("used by"),
    )
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("invite")
        verbose_name_plural = _("invites")

    def __str__(self) -> str:
        return f"{self.project} · {self.get_role_display()}"
