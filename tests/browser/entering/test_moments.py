"""Times in pages from the server: in the reader's zone and language, with the full time in the tooltip."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import log_in
from tests.support.stack import Stack, create_run, rows

TOKEN = """
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from runs.models import AccessToken, Project
AccessToken.objects.update_or_create(digest="moment", defaults={
    "project": Project.objects.get(slug="lab"), "name": "of a moment", "prefix": "moment",
    "created_by": User.objects.get(username="operator"), "expires_at": timezone.now() + timedelta(days=3),
})
"""
FORGET = 'from runs.models import AccessToken; AccessToken.objects.filter(digest="moment").delete()'


@pytest.mark.parametrize(
    ("locale", "zone", "offset"), [("en-GB", "Asia/Shanghai", "GMT+8"), ("de-DE", "Asia/Kathmandu", "GMT+5:45")]
)
def test_pages_show_moments_where_the_reader_is(
    chromium: Browser, stack: Stack, locale: str, zone: str, offset: str
) -> None:
    stack.manage("shell", "-v", "0", "-c", TOKEN)
    context = chromium.new_context(locale=locale, timezone_id=zone)
    page = context.new_page()
    log_in(page, stack.address, "operator", "operator")
    for path in ("/sessions/", "/projects/lab/tokens/"):
        page.goto(f"{stack.address}{path}")
        moment = page.locator(".people-list time").last
        expect(moment).to_have_attribute("title", re.compile(re.escape(offset)))
        at = datetime.fromisoformat(moment.get_attribute("datetime") or "").astimezone(ZoneInfo(zone))
        expect(moment).to_have_text(re.compile(f"(^| ){at:%H:%M:%S}$"))
        assert "UTC" not in page.locator("main").inner_text()
    context.close()
    stack.manage("shell", "-v", "0", "-c", FORGET)


def test_the_admin_shows_the_readers_zone(chromium: Browser, stack: Stack) -> None:
    run = create_run(stack, "in the admin")
    stored = rows(stack, "SELECT created_at FROM runs_run WHERE id = ?", run)[0]["created_at"]
    created_at = datetime.fromisoformat(str(stored)).replace(tzinfo=UTC)
    context = chromium.new_context(locale="en-GB", timezone_id="Asia/Kathmandu")
    page = context.new_page()
    log_in(page, stack.address, "admin", "admin")
    page.goto(f"{stack.address}/admin/runs/run/?q=in+the+admin")
    shown = page.locator("#result_list")
    expect(shown).to_contain_text(f"{created_at.astimezone(ZoneInfo('Asia/Kathmandu')):%Y-%m-%d %H:%M}")
    context.add_cookies([{"name": "steersman_zone", "value": "../../etc/passwd", "url": stack.address}])
    page.reload()
    expect(shown).to_contain_text(f"{created_at:%Y-%m-%d %H:%M}")
    context.close()
