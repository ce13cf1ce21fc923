"""Passkeys in Chromium, with its virtual authenticator: added, used for a login, refused and removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.browser.entering.test_prefix import PREFIX, Proxy
from tests.browser.entering.test_second_factor import look
from tests.browser.test_axe import DESK
from tests.support.browser import Complaints
from tests.support.stack import Stack, seed_stack


@pytest.fixture(scope="module")
def portal() -> Iterator[str]:
    """The address of a portal under a path prefix, behind a proxy, where passkeys replace passwords."""
    with Stack(STEERSMAN_SECOND_FACTOR="totp,webauthn", STEERSMAN_PASSKEY_LOGIN="1", STEERSMAN_PREFIX=PREFIX) as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        proxy = Proxy(stack.port, strips=True)
        yield f"http://localhost:{proxy.port}{PREFIX}"
        proxy.close()


@pytest.fixture
def page(portal: str, chromium: Browser) -> Iterator[Page]:
    page = chromium.new_context(viewport=DESK, locale="en-GB").new_page()
    yield page
    page.context.close()


class Authenticator:
    """A virtual authenticator of a page's browser, one at a time."""

    def __init__(self, page: Page) -> None:
        self.devtools: CDPSession = page.context.new_cdp_session(page)
        self.devtools.send("WebAuthn.enable")
        self.number = ""
        self.plug_in()

    def plug_in(self) -> None:
        """Replace the current authenticator by an empty one."""
        if self.number:
            self.devtools.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.number})
        options = {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        self.number = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def held(self) -> list[dict[str, Any]]:
        answer = self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.number})
        found: list[dict[str, Any]] = answer["credentials"]
        return found

    def add(self, credential: dict[str, Any]) -> None:
        self.devtools.send("WebAuthn.addCredential", {"authenticatorId": self.number, "credential": credential})


def give_password(page: Page, portal: str, name: str) -> None:
    page.goto(f"{portal}/login/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", name)
    page.get_by_role("button", name="Log in", exact=True).click()


def add_passkey(page: Page, portal: str, name: str) -> None:
    """Log in as a user without a second factor, and add a passkey; ends on the recovery codes."""
    give_password(page, portal, name)
    page.goto(f"{portal}/second-factor/passkey/")
    look(page, "Confirm that it is you")
    page.fill("input[name=password]", name)
    page.get_by_role("button", name="Confirm").click()
    look(page, "Add a passkey")
    page.fill("input[name=name]", "My laptop")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()


def test_a_passkey_is_added_logs_in_both_ways_and_is_removed(portal: str, page: Page) -> None:
    complaints = Complaints(page)
    authenticator = Authenticator(page)
    add_passkey(page, portal, "operator")
    (held,) = authenticator.held()
    assert held["isResidentCredential"] and held["rpId"] == "localhost"
    page.goto(f"{portal}/second-factor/")
    look(page, "Second factor")
    expect(page.get_by_test_id("passkeys")).to_contain_text("My laptop")

    page.context.clear_cookies()
    page.goto(f"{portal}/login/?next={PREFIX}/projects/")
    look(page, "Log in")
    page.get_by_role("button", name="Log in with a passkey").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{portal}/projects/")

    page.context.clear_cookies()
    give_password(page, portal, "operator")
    look(page, "Second factor")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page).to_have_url(f"{portal}/")

    page.goto(f"{portal}/second-factor/")
    page.get_by_role("link", name="Remove My laptop").click()
    page.get_by_role("link", name="Use a passkey instead").click()
    look(page, "Confirm that it is you")
    page.get_by_role("button", name="Use a passkey").click()
    look(page, "Remove a passkey")
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("link", name="Add a passkey")).to_be_visible()
    page.context.clear_cookies()
    page.goto(f"{portal}/login/")
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("This passkey is not valid here: try another one.")).to_be_visible()
    give_password(page, portal, "operator")
    expect(page).to_have_url(f"{portal}/")
    assert complaints.lines == []


def test_another_authenticator_logs_nobody_in(portal: str, page: Page) -> None:
    authenticator = Authenticator(page)
    add_passkey(page, portal, "viewer")
    (held,) = authenticator.held()
    authenticator.plug_in()
    page.context.clear_cookies()
    page.goto(f"{portal}/login/")
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("No passkey was given. Try again.")).to_be_visible()

    # Another key under the number and the account of the one that was added.
    add_passkey(page, portal, "owner")
    (other,) = authenticator.held()
    authenticator.plug_in()
    authenticator.add(held | {"privateKey": other["privateKey"]})
    page.context.clear_cookies()
    page.goto(f"{portal}/login/")
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("This passkey is not valid here: try another one.")).to_be_visible()
    give_password(page, portal, "viewer")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("This passkey is not valid here: try another one.")).to_be_visible()
    page.goto(f"{portal}/")
    expect(page).to_have_url(f"{portal}/login/?next={PREFIX}/")


def test_the_page_says_where_passkeys_work(portal: str, page: Page) -> None:
    page.goto(f"{portal.replace('localhost', '127.0.0.1')}/login/")
    expect(page.get_by_text("Passkeys need a name in the address")).to_be_visible()
    expect(page.get_by_role("button", name="Log in with a passkey")).to_be_disabled()
    look(page, "Log in")
    page.add_init_script("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.goto(f"{portal}/login/")
    expect(page.get_by_text("Passkeys only work over https")).to_be_visible()
