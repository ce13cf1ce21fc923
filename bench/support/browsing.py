"""Log in to the portal and request pages, as a person's browser does."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.parse
import urllib.request


def logged_in(address: str, user: str) -> urllib.request.OpenerDirector:
    """Return an opener with the session of `user`, whose password is the user's name."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with browser.open(f"{address}/login/") as page:
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.read().decode())
    assert token is not None
    fields = {"csrfmiddlewaretoken": token.group(1), "username": user, "password": user}
    browser.open(f"{address}/login/", data=urllib.parse.urlencode(fields).encode()).close()
    return browser
