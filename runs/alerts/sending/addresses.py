"""Addresses of destinations: validates what a person enters, and returns the form that is encrypted and used for
sending.

For mail, that form is the recipients, one per line; for robots their webhook; for other services their Apprise address.
Only services over HTTP are accepted, and no address that names a file of this host.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sized
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

MOST_RECIPIENTS = 20
LONGEST_ADDRESS = 2000
LONGEST_HINT = 100
# If a key has at least this length, its last four characters are shown.
LONG_KEY = 16

DINGTALK_HOST, WECOM_HOST = "oapi.dingtalk.com", "qyapi.weixin.qq.com"
DINGTALK_KEY, WECOM_KEY = re.compile(r"[A-Za-z0-9]{8,100}"), re.compile(r"[A-Za-z0-9_-]{8,100}")
# The schemas of Apprise's plug-ins that use HTTP. Excluded are plug-ins that show something on this host (dbus, syslog,
# macosx …), start a program (deltachat), read keys from files (fcm, vapid) or use another protocol.
SERVICES = frozenset(
    re.findall(
        r"\w+",
        """
    46elks acs apprise apprises atalk awswhatsapp azure bale bark barks betterstack bluesky brevo bsky bulksms bulkvs
    burstsms chanify clickatell clicksend cliq cm d7sms dapnet dingtalk discord dot eight00com elks emby embys enigma2
    enigma2s evolution evolutions exotel feishu firehydrant flock flowtriq flowtriqs fluxer fluxers form forms
    freemobile gchat github goalert goalerts gorush gorushs gotify gotifys groundmail groupme guilded gupshup hassio
    hassios httpsms humhub humhubs ifttt ilert incidentio infobip instagram jellyfin jellyfins jira join json jsons
    kakao kakaotalk kaleyra kavenegar klr kodi kodis kook kudosity kumulos lametric lametrics lark lauther lfg line
    mailersend mailgun mastodon mastodons matrix matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg msg91
    msgbird ncloud nclouds nctalk nctalks nexmo notica noticas notifiarr notifico notificos notifyapp notifyre ntfy
    ntfys o365 octopush onebot onebots onesignal opsgenie opsimate opsimates pagerduty pagertree parsep parseps pbul
    pinglet pinglets pingram pjet pjets plivo postmark pover prowl psafer psafers push pushdeer pushdeers pushed pushme
    pushplus pushward pushy qq reddit resend revolt ringc rocket rockets ryver schan sendgrid sendpulse serwersms ses
    session sessions seven sfr signal signalgrid signals signl4 simplepush sinch slack smsc smseagle smseagles
    smsmanager smsmgr smstunnel smtp2go sns sogs sparkpost spike splunk spugpush spush squadcast stackfield strmlabs
    synology synologys telesign telnyx tgram threema toot toots trigv trigvs tweet twilio twist twitter viber victorops
    voipms vonage webex wechat wecom wecombot whapi whatsapp workflow workflows wpush wxpusher wxteams x xbmc xbmcs
    xmatters xml xmls youlmk zalo zcliq zohocliq zoom zulip
    """,
    )
)
# Options by which an address names a file (Apprise would read and send it), another address, or timeouts.
REFUSED_OPTIONS = frozenset(
    re.findall(
        r"[\w-]+",
        """
        template attach attachment attach-as attach_as keyfile key_file subfile pem cert config pgpkey store cto rto
        redirect image_url avatar_url icon_url click actions file path
        """,
    )
)
REFUSED_OPTION = re.compile(rf"\b({'|'.join(sorted(REFUSED_OPTIONS, key=len, reverse=True))})\s*=", re.IGNORECASE)


class InvalidAddress(ValueError):
    """The text is not an address. `field` names the field with the error; the message says what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Address:
    """`secret` is the part that is encrypted, `hint` what members may see of it."""

    secret: str
    hint: str


def mail(recipients: str) -> Address:
    """Return the address of mail to `recipients`, separated by commas, semicolons or white space."""
    found = list(dict.fromkeys(filter(None, re.split(r"[\s,;]+", recipients))))
    if not found:
        raise InvalidAddress("recipients", _("Enter at least one mail address, such as ann@example.org."))
    if len(found) > MOST_RECIPIENTS:
        raise InvalidAddress(
            "recipients", _("Enter at most %(most)d addresses, or use a mailing list.") % {"most": MOST_RECIPIENTS}
        )
    for each in found:
        try:
            validate_email(each)
        except ValidationError as error:
            text = _("%(address)s is not a mail address. Write it like ann@example.org.")
            raise InvalidAddress("recipients", text % {"address": each[:100]}) from error
    more = f" +{len(found) - 1}" if len(found) > 1 else ""
    return Address("\n".join(found), masked_mail(found[0])[: LONGEST_HINT - len(more)] + more)


def masked_mail(address: str) -> str:
    """Return what members may see of a mail address: its first letter and its domain."""
    name, _at, domain = address.rpartition("@")
    return f"{name[:1]}…@{domain}"


def dingtalk(webhook: str, signing_secret: str = "") -> Address:
    """Return the address of a DingTalk robot: its webhook, with `&secret=` if it has a signing secret."""
    example = f"https://{DINGTALK_HOST}/robot/send?access_token=…"
    token = _robot_key(webhook, DINGTALK_HOST, "access_token", DINGTALK_KEY, example)
    secret = signing_secret.strip()
    if secret and not DINGTALK_KEY.fullmatch(secret):
        text = _(
            "This is not a signing secret, which begins with SEC. Copy the secret from the robot's page, or leave "
            "the field empty if the robot has none."
        )
        raise InvalidAddress("signing_secret", text)
    address = f"https://{DINGTALK_HOST}/robot/send?access_token={token}"
    return Address(f"{address}&secret={secret}" if secret else address, _masked(token))


def wecom(webhook: str) -> Address:
    """Return the address of a WeCom robot: its webhook."""
    address = f"https://{WECOM_HOST}/cgi-bin/webhook/send?key="
    key = _robot_key(webhook, WECOM_HOST, "key", WECOM_KEY, f"{address}…")
    return Address(f"{address}{key}", _masked(key))


def service(address: str) -> Address:
    """Return the address of another service in Apprise's notation. Raises `InvalidAddress`, also for local services."""
    address = address.strip()
    schema = _schema_of(address)
    try:
        receivers = _receivers_of(address)
    except Exception as error:  # plug-ins of many authors raise any exception
        raise InvalidAddress("address", _unfit(schema)) from error
    if not receivers or not address.partition("://")[2].strip("/"):
        raise InvalidAddress("address", _unfit(schema))
    host = _split(address).hostname or ""
    return Address(address, f"{schema}://{host}/…"[:LONGEST_HINT] if _is_server(schema, host) else f"{schema}://…")


def _schema_of(address: str) -> str:
    """Return the schema of an address, if it is allowed."""
    if len(address) > LONGEST_ADDRESS or re.search(r"[\s\x00-\x1f]", address):
        raise InvalidAddress("address", _("Enter one address, without spaces, of at most 2000 characters."))
    schema, found, _rest = address.partition("://")
    schema = schema.lower()
    if not found:
        raise InvalidAddress(
            "address", _("Begin the address with the name of a service, such as ntfys:// or slack://.")
        )
    if schema in ("http", "https"):
        text = _(
            "Write the address in the form that Apprise uses. For your own webhook, replace %(given)s:// with "
            "%(schema)s://."
        )
        raise InvalidAddress("address", text % {"schema": "jsons" if schema == "https" else "json", "given": schema})
    if schema in ("mailto", "mailtos"):
        raise InvalidAddress(
            "address", _("To send mail, choose the kind mail. The mail account is set up on its own page.")
        )
    if schema not in SERVICES:
        text = _("%(schema)s:// is not a supported network service. See Apprise's list of services.")  # fmt: skip  # noqa: E501
        raise InvalidAddress("address", text % {"schema": schema[:40]})
    # Anywhere in the address and in any case, because Apprise has its own rules for splitting options.
    if named := REFUSED_OPTION.search(_unquoted(address)):
        text = _("Remove %(option)s=: options for files, other addresses or timeouts are not allowed.")
        raise InvalidAddress("address", text % {"option": named[1]})
    return schema


def _receivers_of(address: str) -> int:
    """Return the number of recipients in an address of Apprise; 0 if a part of it is missing."""
    # Imported here, because Apprise is large and the portal needs it for nothing else.
    import apprise

    # Apprise logs a warning about keys that it does not accept, including the keys.
    logging.getLogger("apprise").propagate = False
    plugin: Sized | None = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    return 0 if plugin is None else len(plugin)


def _unfit(schema: str) -> str:
    text = _("This %(schema)s address is incomplete: a key or a name is missing. Compare it with Apprise's page about the service.")  # fmt: skip  # noqa: E501
    return text % {"schema": f"{schema}://"}


def _is_server(schema: str, host: str) -> bool:
    """Return whether the host part of an address is a server; many services put a key there."""
    servers = {"apprise", "bark", "form", "gotify", "hassio", "json", "matrix", "mmost", "ncloud", "nctalk", "ntfy",
               "rocket", "synology", "xml"}  # fmt: skip
    return schema.removesuffix("s") in servers and "." in host


def _robot_key(webhook: str, host: str, name: str, form: re.Pattern[str], example: str) -> str:
    scheme, netloc, _path, query, _fragment = _split(webhook.strip())
    keys = parse_qs(query).get(name, [])
    if scheme != "https" or netloc != host or len(keys) != 1 or not form.fullmatch(keys[0]):
        text = _("Copy the whole webhook address from the robot's page: %(example)s")
        raise InvalidAddress("webhook", text % {"example": example})
    return keys[0]


def _unquoted(address: str) -> str:
    """Return an address with all levels of percent-encoding removed."""
    while (plain := unquote(address)) != address:
        address = plain
    return address


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _masked(key: str) -> str:
    return f"…{key[-4:]}" if len(key) >= LONG_KEY else "…"
