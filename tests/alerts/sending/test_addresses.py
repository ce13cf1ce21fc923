"""Which texts are accepted as the address of a destination, and that none can reach anything on this host."""

from __future__ import annotations

import logging

import pytest
from apprise import NotificationManager

from runs.alerts.sending import addresses
from runs.alerts.sending.addresses import InvalidAddress

KEY = "693a91f6-7eb2-4bc4-97a0-0ec2f1fa5aaa"
TOKEN = "a1b2c3d4" * 8
# Services that are not reached over HTTP, or that read files, start programs or show something here.
LEFT_OUT = {
    "amqp", "amqps", "aprs", "blink1", "dbus", "deltachat", "deltachats", "fcm", "gio", "glib", "gnome", "growl", "irc",
    "ircs", "kde", "macosx", "mailto", "mailtos", "mqtt", "mqtts", "nostr", "qt", "rsyslog", "smpp", "smpps", "syslog",
    "vapid", "windows", "xmpp", "xmpps",
}  # fmt: skip


def test_each_service_of_apprise_is_taken_or_left_out() -> None:
    """A new release may add others: review each before it is accepted."""
    assert set(NotificationManager().schemas()) == addresses.SERVICES | LEFT_OUT
    assert not addresses.SERVICES & LEFT_OUT


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#loss", "slack://…"),
        ("tgram://123456789:ABCdefghijklABCdefghijklABCdefghijkl/1234", "tgram://…"),
        ("ntfys://ntfy.example.org/topic", "ntfys://ntfy.example.org/…"),
        ("ntfys://topic", "ntfys://…"),
        ("lark://abcd-1234", "lark://…"),
        ("feishu://abcd-1234", "feishu://…"),
        ("JSONS://user:password@hooks.example.org/path?+X-Key=a", "jsons://hooks.example.org/…"),
        ("schan://SCT123abc", "schan://…"),
    ],
)
def test_a_service_is_kept_as_it_was_entered_and_its_hint_holds_no_key(address: str, hint: str) -> None:
    found = addresses.service(f" {address} ")
    assert (found.secret, found.hint) == (address, hint)


@pytest.mark.parametrize("schema", sorted(LEFT_OUT | {"file", "http", "https", "memory", "javascript", ""}))
def test_what_is_no_service_on_the_net_is_refused(schema: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        addresses.service(f"{schema}://example.org/a")
    assert refused.value.field == "address"


@pytest.mark.parametrize(
    "option",
    ["?template", "?TEMPLATE", "?keyfile", "?+template", "?%74emplate", "?a=b;template", "#a?template"],
)
def test_an_option_that_names_a_file_is_refused(option: str) -> None:
    with pytest.raises(InvalidAddress, match="options for files"):
        addresses.service(f"discord://123456789/{'a' * 40}/{option}=/etc/passwd")


@pytest.mark.parametrize(
    "address",
    ["", "slack", "slack://", "slack://a", "ntfys://", "jsons://a.example jsons://b.example", "jsons://a\nb", "jsons://[",
     "jsons://" + "a" * 3000],
)  # fmt: skip
def test_what_is_no_whole_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        addresses.service(address)
    assert refused.value.field == "address" and str(refused.value).endswith((".", "missing."))


@pytest.mark.parametrize("divider", [",", ";", "\n", " ", ", \n"])
def test_recipients_are_divided_and_each_is_told_once(divider: str) -> None:
    found = addresses.mail(divider.join(["ann@example.org", "bo@example.org", "ann@example.org"]))
    assert found.secret == "ann@example.org\nbo@example.org"
    assert found.hint == "a…@example.org +1"


@pytest.mark.parametrize("recipients", ["", "ann", "a@b.cc\r\nBcc: x@y.zz", ",".join(f"a{n}@b.cc" for n in range(21))])
def test_recipients_that_are_none_are_refused(recipients: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        addresses.mail(recipients)
    assert refused.value.field == "recipients"


def test_a_robot_is_kept_by_its_webhook() -> None:
    dingtalk = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"
    wecom = f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={KEY}"
    for found in (addresses.dingtalk(dingtalk), addresses.dingtalk(dingtalk, "SECabcd1234"), addresses.wecom(wecom)):
        assert found.secret.startswith((dingtalk, wecom))
        assert KEY not in found.hint and TOKEN not in found.hint and found.hint.endswith(("…5aaa", "…c3d4"))


@pytest.mark.parametrize(
    "webhook",
    [
        "",
        TOKEN,
        f"http://oapi.dingtalk.com/robot/send?access_token={TOKEN}",
        f"https://oapi.dingtalk.com.example/robot/send?access_token={TOKEN}",
        f"https://oapi.dingtalk.com@example.org/robot/send?access_token={TOKEN}",
        f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}&access_token={TOKEN}",
        "https://oapi.dingtalk.com/robot/send?access_token=a/../b@c",
        "https://[oapi.dingtalk.com",
    ],
)
def test_a_webhook_of_another_host_is_no_robot(webhook: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        addresses.dingtalk(webhook)
    assert refused.value.field == "webhook"


def test_an_address_that_is_refused_stands_in_no_log() -> None:
    """Apprise logs keys that it does not accept, in the portal too."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with pytest.raises(InvalidAddress):
            addresses.service("slack://T1JJ3T3L2/A1BRTD4JD/mistyped1234567890abc!!")
    finally:
        logging.getLogger().removeHandler(handler)
    assert seen == []


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_an_option_is_refused_however_often_it_is_quoted(times: int) -> None:
    option = "template"
    for _ in range(times):
        option = "".join(f"%{ord(each):02x}" for each in option) if "%" not in option else option.replace("%", "%25")
    with pytest.raises(InvalidAddress):
        addresses.service(f"jsons://example.org/hook?{option}=/etc/passwd")
