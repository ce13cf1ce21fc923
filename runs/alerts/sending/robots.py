"""Robots of DingTalk and WeCom groups: one POST of JSON, signed if the robot requires it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from runs.alerts.sending import guard
from runs.alerts.sending.errors import NotSent, redacted
from runs.alerts.sending.message import Message
from steersman.marked_text import gettext_noop

Body = dict[str, str | dict[str, str]]

TIMEOUT_S = 10
# Robots cut longer texts: WeCom at 4,096 bytes, DingTalk at 20,000.
LONGEST_BYTES = 4000
# Error codes that a retry may avoid: too many messages per minute, and a busy server.
_BUSY = {-1, 45009, 130101, 410100}


def send_dingtalk(address: str, keyword: str, message: Message) -> str:
    """POST to a DingTalk robot; return its answer. `&secret=SEC…` in the address is the signing key.

    The signature is the base64 of the HMAC-SHA256 of "time in ms, newline, key" (open.dingtalk.com, custom robot).
    Raises `NotSent`.
    """
    parts = urlsplit(address)
    query = parse_qsl(parts.query)
    key = next((value for name, value in query if name == "secret"), "")
    query = [(name, value) for name, value in query if name != "secret"]
    if key:
        moment = str(round(time.time() * 1000))
        query += [("timestamp", moment), ("sign", dingtalk_signature(moment, key))]
    url = urlunsplit(parts._replace(query=urlencode(query), fragment=""))
    body: Body = {"msgtype": "markdown", "markdown": {"title": message.subject, "text": markdown(message, keyword)}}
    return _post(url, body, address)


def send_wecom(address: str, keyword: str, message: Message) -> str:
    """POST to a WeCom robot; return its answer. Raises `NotSent`."""
    return _post(address, {"msgtype": "markdown", "markdown": {"content": markdown(message, keyword)}}, address)


def dingtalk_signature(moment: str, key: str) -> str:
    """Return the signature of a request at `moment`, in milliseconds since the epoch."""
    return base64.b64encode(hmac.new(key.encode(), f"{moment}\n{key}".encode(), hashlib.sha256).digest()).decode()


def markdown(message: Message, keyword: str) -> str:
    """Return a message in the Markdown of robots, with the keyword that their filter requires."""
    # Names and texts of a training may contain Markdown: remove links and pictures (`](`), tags and mentions (`<`).
    text = message.text.replace("](", "] (").replace("<", "‹")
    if keyword and keyword not in text:
        text = f"{keyword}\n\n{text}"
    # Markdown ignores a single newline.
    text = text.replace("\n", "\n\n")
    return text.encode()[:LONGEST_BYTES].decode(errors="ignore")


def _post(url: str, body: Body, secret: str) -> str:
    if urlsplit(url).scheme not in ("https", "http"):
        raise NotSent(
            gettext_noop("The address of a robot must begin with https://. Copy it from the robot's page."),
            is_final=True,
        )
    guard.begin()
    try:
        answer = requests.post(url, json=body, timeout=TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        if guard.was_refused():
            raise NotSent(guard.REFUSAL, is_final=True) from None
        raise NotSent(redacted(f"The robot cannot be reached: {type(error).__name__}.", [secret])) from None
    said = redacted(answer.text[:1000], [secret])
    if answer.status_code != 200:
        is_final = 300 <= answer.status_code < 500 and answer.status_code not in (408, 429)
        raise NotSent(f"HTTP {answer.status_code}: {said}", is_final)
    try:
        code = answer.json()["errcode"]
    except (ValueError, KeyError, TypeError):
        raise NotSent(
            f"The answer is not that of a robot: check the webhook address. The server answered: {said}"
        ) from None
    if code != 0:
        raise NotSent(said, is_final=code not in _BUSY)
    return said
