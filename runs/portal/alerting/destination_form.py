"""The form of a destination: the address fields of its kind, and for all kinds which alerts to send and when."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from runs.access.roles import COMMANDING_ROLES, display_name
from runs.alerts.sending import addresses
from runs.alerts.sending.addresses import Address, InvalidAddress
from runs.alerts.sending.secrets import seal
from runs.models import AlertDestination, DestinationKind, Project, Severity

LONGEST_DIGEST_MINUTES = 24 * 60
SELECT = {"class": "form-select"}
TEXT = {"class": "form-control", "autocomplete": "off"}
SECRET = TEXT | {"spellcheck": "false", "autocapitalize": "off"}
# The address fields of each kind, and which of them are required.
ADDRESS_FIELDS = {
    DestinationKind.MAIL: ("recipients",),
    DestinationKind.DINGTALK: ("webhook", "signing_secret", "keyword"),
    DestinationKind.WECOM: ("webhook",),
    DestinationKind.SERVICE: ("address",),
}
NEEDED = ("recipients", "webhook", "address")


class PersonField(forms.ModelChoiceField[User]):
    def label_from_instance(self, obj: Any) -> str:
        return display_name(obj)


class DestinationForm(forms.ModelForm[AlertDestination]):
    """A destination of `kind`. Its address is write-only: if it is left empty, an existing one is kept."""

    recipients = forms.CharField(
        label=gettext_lazy("Mail addresses"),
        max_length=2000,
        help_text=gettext_lazy("One or more addresses, separated by commas."),
        widget=forms.TextInput(attrs=TEXT | {"inputmode": "email"}),
    )
    webhook = forms.CharField(
        label=gettext_lazy("Webhook address"), max_length=500, widget=forms.TextInput(attrs=SECRET)
    )
    signing_secret = forms.CharField(
        label=gettext_lazy("Signing secret"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("The secret begins with SEC. Leave empty if the robot uses a keyword."),
        widget=forms.TextInput(attrs=SECRET),
    )
    address = forms.CharField(
        label=gettext_lazy("Apprise address"),
        max_length=addresses.LONGEST_ADDRESS,
        help_text=gettext_lazy(
            "For example ntfys://ntfy.sh/topic, slack://…, tgram://…, lark://… or jsons://example.org/hook (webhook)."
        ),
        widget=forms.TextInput(attrs=SECRET),
    )
    person = PersonField(
        label=gettext_lazy("Links act for"),
        queryset=User.objects.none(),
        required=False,
        empty_label=gettext_lazy("nobody: log in when opening a link"),
        help_text=gettext_lazy(
            "Messages contain links that control the run. Anyone with the message can use them in this person's name."
        ),
        widget=forms.Select(attrs=SELECT),
    )
    digest_minutes = forms.IntegerField(
        label=gettext_lazy("Digest interval in minutes"),
        initial=0,
        min_value=0,
        max_value=LONGEST_DIGEST_MINUTES,
        help_text=gettext_lazy("Collect alerts for this many minutes into one message. 0: send at once."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    language = forms.ChoiceField(
        label=gettext_lazy("Language of messages"),
        choices=[("", gettext_lazy("same as the installation")), *settings.LANGUAGES],
        required=False,
        widget=forms.Select(attrs=SELECT),
    )
    quiet_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        initial="UTC",
        max_length=64,
        help_text=gettext_lazy(
            "Used for quiet hours and for times in messages; for example Asia/Shanghai, Europe/Berlin or UTC."
        ),
        widget=forms.TextInput(attrs=TEXT),
    )

    class Meta:
        model = AlertDestination
        fields = (
            "name",
            "keyword",
            "language",
            "least_severity",
            "tells_cleared",
            "quiet_from",
            "quiet_until",
            "quiet_zone",
            "digest_minutes",
            "person",
        )
        labels = {
            "name": gettext_lazy("Name"),
            "keyword": gettext_lazy("Keyword"),
            "least_severity": gettext_lazy("Least severity"),
            "tells_cleared": gettext_lazy("Also notify when an alert is cleared"),
            "quiet_from": gettext_lazy("Quiet from"),
            "quiet_until": gettext_lazy("Quiet until"),
        }
        help_texts = {
            "name": gettext_lazy("Visible to members of the project."),
            "keyword": gettext_lazy(
                "The keyword that every message must contain. Leave empty if the robot has a signing secret."
            ),
            "least_severity": gettext_lazy("Less severe alerts are not sent."),
            "quiet_until": gettext_lazy(
                "In quiet hours only critical alerts are sent; all others wait until the quiet hours end."
            ),
        }
        widgets = {
            "name": forms.TextInput(attrs=TEXT),
            "keyword": forms.TextInput(attrs=TEXT),
            "least_severity": forms.Select(attrs=SELECT),
            "tells_cleared": forms.CheckboxInput(attrs={"class": "form-check-input"}),
            "quiet_from": forms.TimeInput(attrs={"class": "form-control", "type": "time"}, format="%H:%M"),
            "quiet_until": forms.TimeInput(attrs={"class": "form-control", "type": "time"}, format="%H:%M"),
        }

    def __init__(self, *args: Any, project: Project, kind: DestinationKind, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project, self.kind = project, kind
        own = ADDRESS_FIELDS[kind]
        for name in {each for names in ADDRESS_FIELDS.values() for each in names} - set(own):
            del self.fields[name]
        for name in set(own) & set(NEEDED):
            field = self.fields[name]
            if self.instance.pk is None:
                continue
            field.required = False
            field.help_text = _("Current value: %(hint)s. Leave empty to keep it.") % {"hint": self.instance.hint}
        if kind == DestinationKind.DINGTALK and self.instance.pk is None:
            self.fields["webhook"].help_text = _(
                "In the group: Group settings, Robots, Custom. The address begins with https://oapi.dingtalk.com/robot/send."
            )
        if kind == DestinationKind.WECOM and self.instance.pk is None:
            self.fields["webhook"].help_text = _(
                "In the group: Add a group robot. The address begins with https://qyapi.weixin.qq.com/cgi-bin/webhook/send."
            )
        people = self.fields["person"]
        assert isinstance(people, forms.ModelChoiceField)
        people.queryset = (
            User.objects.filter(
                is_active=True, memberships__project=project, memberships__role__in=sorted(COMMANDING_ROLES)
            )
            .distinct()
            .order_by("first_name", "username")
        )
        severity = self.fields["least_severity"]
        assert isinstance(severity, forms.ChoiceField)
        severity.choices = Severity.choices
        self.order_fields(["name", *own])
        self.found: Address | None = None

    def clean_quiet_zone(self) -> str:
        zone: str = self.cleaned_data["quiet_zone"]
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, LookupError) as error:
            raise forms.ValidationError(_("Unknown time zone. Write it like Asia/Shanghai or UTC.")) from error
        return zone

    def clean(self) -> dict[str, Any]:
        chosen: dict[str, Any] = super().clean() or self.cleaned_data
        begin, end = chosen.get("quiet_from"), chosen.get("quiet_until")
        if (begin is None) != (end is None) and not {"quiet_from", "quiet_until"} & set(self.errors):
            missing = "quiet_until" if end is None else "quiet_from"
            self.add_error(missing, _("Enter both times, or leave both empty for no quiet hours."))
        elif begin is not None and begin == end:
            self.add_error("quiet_until", _("The end must differ from the start."))
        try:
            self.found = self._address(chosen)
        except InvalidAddress as error:
            self.add_error(error.field, str(error))
        return chosen

    def save_for(self, user: User) -> AlertDestination:
        """Store the destination as created or changed by `user`."""
        destination: AlertDestination = self.save(commit=False)
        destination.project, destination.kind = self.project, self.kind
        if destination.pk is None:
            destination.created_by = user
        destination.changed_by = user
        if self.found is not None:
            destination.secret, destination.hint = seal(self.found.secret), self.found.hint
        destination.save()
        return destination

    def _address(self, chosen: dict[str, Any]) -> Address | None:
        """Return the entered address, None if there is none or it already has an error."""
        entered = {name: chosen.get(name) or "" for name in ADDRESS_FIELDS[self.kind]}
        if entered.get("signing_secret") and not entered["webhook"] and "webhook" not in self.errors:
            raise InvalidAddress(
                "webhook", _("Enter the webhook address too: it is stored together with the signing secret.")
            )
        match self.kind:
            case DestinationKind.MAIL if entered["recipients"]:
                return addresses.mail(entered["recipients"])
            case DestinationKind.DINGTALK if entered["webhook"]:
                return addresses.dingtalk(entered["webhook"], entered["signing_secret"])
            case DestinationKind.WECOM if entered["webhook"]:
                return addresses.wecom(entered["webhook"])
            case DestinationKind.SERVICE if entered["address"]:
                return addresses.service(entered["address"])
        return None
