"""*Your sessions*: which sessions it lists and ends, and that nobody can reach another person's session."""

from __future__ import annotations

import re
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from runs.sign_in import sessions as noted
from runs.sign_in.sessions import device_of

PASSWORD = "a long and quiet river"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Mobile/15E148 Safari/604.1"
)
EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
    "Safari/537.36 Edg/140.0.0.0"
)


@pytest.fixture(autouse=True)
def people(db: None) -> None:
    User.objects.create_user("ada", password=PASSWORD)
    User.objects.create_superuser("root", password=PASSWORD)


def logged_in(name: str = "ada", agent: str = FIREFOX, address: str = "192.0.2.7", path: str = "/login/") -> Client:
    client = Client(REMOTE_ADDR=address, headers={"user-agent": agent})
    assert client.post(path, {"username": name, "password": PASSWORD}).status_code == 302
    return client


def shown(client: Client) -> list[str]:
    """Return the text of each listed session."""
    page = client.get("/sessions/").content.decode()
    rows = re.findall(r'<li class="person" data-session.*?</li>', page, re.S)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def ids_of(name: str, but: Client) -> list[int]:
    others = UserSession.objects.filter(user__username=name).exclude(session_key=but.session.session_key)
    return list(others.values_list("pk", flat=True))


def test_each_login_is_a_row_with_its_device_and_address_the_present_one_first() -> None:
    phone = logged_in(agent=IPHONE, address="198.51.100.9")
    desk = logged_in()
    rows = shown(desk)
    assert [row.split(" this session")[0].split(" since")[0] for row in rows] == [
        "Firefox, Linux", "Safari, iPhone 198.51.100.9",
    ]  # fmt: skip
    assert "this session 192.0.2.7" in rows[0] and "this session" in shown(phone)[0]


def test_the_login_of_the_admin_is_listed_too() -> None:
    client = logged_in("root", path="/admin/login/")
    assert len(shown(client)) == 1


def test_an_ended_session_is_logged_out_and_the_others_stay() -> None:
    desk, phone, tablet = logged_in(), logged_in(agent=IPHONE), logged_in(agent=EDGE)
    (chosen,) = UserSession.objects.filter(session_key=phone.session.session_key).values_list("pk", flat=True)
    assert desk.post(f"/sessions/{chosen}/end/").headers["Location"] == "/sessions/"
    assert [is_in(client) for client in (desk, phone, tablet)] == [True, False, True]
    assert len(shown(desk)) == 2
    assert desk.post("/sessions/end-others/").status_code == 302
    assert [is_in(client) for client in (desk, tablet)] == [True, False]
    assert len(shown(desk)) == 1


def test_to_end_the_present_session_logs_out() -> None:
    desk = logged_in()
    (own,) = UserSession.objects.values_list("pk", flat=True)
    assert desk.post(f"/sessions/{own}/end/").headers["Location"] == "/login/"
    assert not is_in(desk)
    assert not Session.objects.exists() and not UserSession.objects.exists()


def test_nobody_ends_the_session_of_another() -> None:
    ada, root = logged_in(), logged_in("root")
    (of_root,) = ids_of("root", but=ada)
    assert ada.post(f"/sessions/{of_root}/end/").status_code == 404
    ada.post("/sessions/end-others/")
    assert is_in(root)


def test_a_session_that_ended_in_any_way_is_listed_no_more() -> None:
    desk, phone = logged_in(), logged_in(agent=IPHONE)
    phone.post("/logout/")
    assert len(shown(desk)) == 1
    new = "another long and quiet river"
    logged_in(agent=EDGE)
    desk.post("/password/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert [row.split(" ")[0] for row in shown(desk)] == ["Firefox,"]


def test_use_is_written_down_once_a_minute(django_assert_num_queries: Any) -> None:
    desk = logged_in()
    before = UserSession.objects.get()
    desk.get("/password/")
    assert UserSession.objects.get().last_seen_at == before.last_seen_at
    noted._written[before.session_key] -= noted.SEEN_EVERY_S
    desk.get("/password/", REMOTE_ADDR="198.51.100.9")
    after = UserSession.objects.get()
    assert after.last_seen_at > before.last_seen_at and after.ip == "198.51.100.9"


def test_a_session_of_before_the_upgrade_is_listed_once_it_is_used() -> None:
    desk = logged_in()
    UserSession.objects.all().delete()
    noted._written.clear()
    desk.get("/password/")
    assert len(shown(desk)) == 1


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox, Linux"), (IPHONE, "Safari, iPhone"), (EDGE, "Edge, Windows"),
        ("python-requests/2.32", "python-requests/2.32"), ("", "unknown device"),
    ],
)  # fmt: skip
def test_a_device_is_named_as_people_name_it(agent: str, name: str) -> None:
    assert device_of(agent) == name
