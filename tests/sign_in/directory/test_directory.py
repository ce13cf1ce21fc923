"""A real directory: who may log in, with which roles, what is refused, and the effects of a dead directory."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import environ
import pytest
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from monitor_site.environment.directory import Directory, directory
from monitor_site.environment.sign_in import GroupRole
from runs.models import Membership, Project
from tests.portal.test_chinese import english_of
from tests.sign_in.directory.server import (
    SEARCHER,
    SEARCHERS_PASSWORD,
    SLAPD,
    SUFFIX,
    DirectoryServer,
    group,
    person,
    posix_group,
)

PASSWORD = "a long and quiet river"
OWN = "a password of the portal"
IS_INSTALLED = SLAPD is not None and importlib.util.find_spec("django_auth_ldap") is not None
needs_directory = pytest.mark.skipif(
    not IS_INSTALLED, reason="needs Debian's slapd and the packages of requirements-ldap.txt"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryServer]:
    running = DirectoryServer(tmp_path_factory.mktemp("directory"))
    running.add(
        *(person(name, PASSWORD) for name in ("ada", "grace", "root")),
        group("ml", "ada", "grace"), group("leads", "grace"), posix_group("ops", "ada"),
    )  # fmt: skip
    running.start()
    yield running
    running.stop()


@pytest.fixture
def portal(server: DirectoryServer, db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Directory:
    """A portal configured for the directory as by the environment, with a project of the user olga."""
    chosen = directory(given(monkeypatch, URL=server.address("ldaps"), CA_FILE=server.authority))
    assert chosen is not None
    use(settings, chosen)
    project = Project.objects.create(name="Lab", slug="lab")
    olga = User.objects.create_user("olga", password=OWN)
    Membership.objects.create(project=project, user=olga, role="owner")
    return chosen


def given(monkeypatch: pytest.MonkeyPatch, **changed: str) -> environ.Env:
    values = {
        "URL": "ldap://localhost", "BIND_DN": SEARCHER, "BIND_PASSWORD": SEARCHERS_PASSWORD,
        "USERS": f"ou=people,{SUFFIX}", "GROUPS": f"ou=groups,{SUFFIX}",
        "ROLES": "ml=lab:viewer, ops=lab:operator, leads=lab:owner",
    } | changed  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"STEERSMAN_LDAP_{name}", value)
    return environ.Env()


def use(settings: Any, chosen: Directory) -> None:
    from runs.sign_in import directory as backend

    backend._away_until = 0.0
    settings.STEERSMAN_LDAP = chosen
    name = "runs.sign_in.directory.DirectoryBackend"
    settings.AUTHENTICATION_BACKENDS = [each for each in settings.AUTHENTICATION_BACKENDS if each != name] + [name]


def given_password(name: str, password: str = PASSWORD, **options: Any) -> tuple[Client, Any]:
    client = Client(**options)
    return client, client.post("/login/", {"username": name, "password": password})


def who(client: Client) -> str | None:
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number).username if number else None


def role(name: str) -> str | None:
    return Membership.objects.filter(user__username=name).values_list("role", flat=True).first()


@needs_directory
def test_the_first_login_makes_an_account_and_groups_give_roles(portal: Directory) -> None:
    client, answer = given_password("ada")
    assert answer.headers["Location"] == "/" and who(client) == "ada"
    ada = User.objects.get(username="ada")
    assert (ada.get_full_name(), ada.has_usable_password(), ada.is_staff) == ("Ada of ada", False, False)
    # The higher role of a group of entries and of a group of login names counts.
    assert role("ada") == "operator"
    given_password("grace")
    assert role("grace") == "owner"
    given_password("ada")
    assert User.objects.count() == 3 and client.get("/").status_code == 200
    Membership.objects.filter(user=ada).update(role="owner")
    given_password("ada")
    assert role("ada") == "operator"


@needs_directory
@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", "guess"), ("ada", ""), ("nobody", PASSWORD), ("*", PASSWORD), ("a*", PASSWORD),
        ("ada)(uid=*", PASSWORD), ("ada)(|(objectClass=*)", PASSWORD), (f"uid=ada,ou=people,{SUFFIX}", PASSWORD),
        ("searcher", SEARCHERS_PASSWORD),
    ],
)  # fmt: skip
def test_nobody_else_comes_in(portal: Directory, name: str, password: str) -> None:
    client, answer = given_password(name, password)
    assert answer.status_code == 200 and who(client) is None and User.objects.count() == 1
    assert "does not answer" not in answer.content.decode()


@needs_directory
@pytest.mark.parametrize("name", ["root", "Root"])
def test_a_name_of_the_directory_leads_to_no_local_account(portal: Directory, name: str) -> None:
    own = User.objects.create_superuser("root", password=OWN)
    client, _ = given_password(name)
    made = User.objects.get(pk=client.session["_auth_user_id"])
    assert made.pk != own.pk and made.username.lower() != "root" and not made.is_superuser
    local, _ = given_password("root", OWN)
    assert who(local) == "root"
    # The directory's password does not count as the current one of the local account either.
    changed = {"old_password": PASSWORD, "new_password1": f"new {OWN}", "new_password2": f"new {OWN}"}
    assert local.post("/password/", changed).status_code == 200
    own.refresh_from_db()
    assert own.check_password(OWN)
    settings_page = local.post("/admin/password_change/", changed, follow=True)
    assert settings_page.status_code == 200 and own.check_password(OWN)


@needs_directory
def test_a_login_name_that_is_given_to_somebody_else_leads_to_a_new_account(
    portal: Directory, settings: Any, tmp_path: Path
) -> None:
    given_password("ada")
    other = DirectoryServer(tmp_path)
    other.add(person("ada", PASSWORD, number="99999999-9999-9999-9999-999999999999"))
    other.start()
    try:
        use(settings, replace(portal, url=other.address("ldaps"), ca_file=other.authority, groups="", roles=()))
        client, _ = given_password("ada")
        assert who(client) not in (None, "ada")
    finally:
        other.stop()


@needs_directory
def test_a_second_factor_is_asked_for_and_no_role_is_given_before(portal: Directory, settings: Any) -> None:
    settings.STEERSMAN_SECOND_FACTOR = ("totp",)
    given_password("ada")
    TOTP.activate(User.objects.get(username="ada"), "A" * 32)
    Membership.objects.filter(user__username="ada").delete()
    client, answer = given_password("ada")
    assert answer.headers["Location"] == "/second-factor/code/" and who(client) is None and role("ada") is None


@needs_directory
def test_the_password_stays_in_the_directory(portal: Directory) -> None:
    client, _ = given_password("ada")
    assert "/password/" not in client.get("/").content.decode()
    changed = {"old_password": PASSWORD, "new_password1": OWN, "new_password2": OWN}
    answer = client.post("/password/", changed)
    assert answer.status_code == 403 and "Your organisation manages your password" in answer.content.decode()
    assert not User.objects.get(username="ada").has_usable_password()


@needs_directory
def test_wrong_passwords_lock_and_deactivated_people_stay_out(portal: Directory, settings: Any) -> None:
    given_password("grace")
    grace, _ = given_password("grace")
    User.objects.filter(username="grace").update(is_active=False)
    assert grace.get("/").status_code == 302 and who(given_password("grace")[0]) is None
    answers = [given_password("ada", "guess")[1].status_code for _ in range(settings.AXES_FAILURE_LIMIT)]
    assert answers == [200] * (settings.AXES_FAILURE_LIMIT - 1) + [429]
    client, answer = given_password("ada")
    assert answer.status_code == 429 and who(client) is None


@needs_directory
@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_certificate_of_nobody_we_trust_is_refused(
    portal: Directory, server: DirectoryServer, settings: Any, scheme: str
) -> None:
    use(settings, replace(portal, url=server.address(scheme), starts_tls=scheme == "ldap", ca_file=""))
    client, answer = given_password("ada")
    assert who(client) is None and "does not answer" in answer.content.decode()


@needs_directory
def test_plain_ldap_to_another_machine_starts_tls(portal: Directory, server: DirectoryServer, settings: Any) -> None:
    use(settings, replace(portal, url=server.address("ldap"), starts_tls=True))
    assert who(given_password("ada")[0]) == "ada"


@needs_directory
@pytest.mark.parametrize("scheme", ["ldap", "ldap with TLS", "ldaps"])
def test_a_directory_that_hangs_holds_nobody_up(
    portal: Directory, settings: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server accepts connections and never answers; local accounts do not query it."""
    monkeypatch.setattr("runs.sign_in.directory.ANSWER_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme.split()[0]}://127.0.0.1:{silent.getsockname()[1]}"
        use(settings, replace(portal, url=address, starts_tls="TLS" in scheme))
        assert who(given_password("olga", OWN)[0]) == "olga"
        began = time.monotonic()
        client, answer = given_password("ada")
        assert who(client) is None and "does not answer" in answer.content.decode()
        assert time.monotonic() - began < 30
        # The next login does not wait, because the portal does not query the directory again at once.
        silent.settimeout(0.0)
        while True:
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                break
        assert "does not answer" in given_password("grace")[1].content.decode()
        with pytest.raises(BlockingIOError):
            silent.accept()


@needs_directory
def test_a_directory_that_is_away_says_so_in_both_languages(portal: Directory, server: DirectoryServer) -> None:
    server.stop()
    try:
        answer = given_password("ada")[1]
        assert "only accounts with a password of this portal can log in" in answer.content.decode()
        chinese = given_password("ada", headers={"accept-language": "zh-CN"})[1].content.decode()
        assert [line for line in english_of(chinese) if line != "ada"] == []
        assert who(given_password("olga", OWN)[0]) == "olga"
    finally:
        server.start()


@needs_directory
def test_groups_that_cannot_be_read_let_nobody_in_and_take_no_role(portal: Directory, settings: Any) -> None:
    given_password("ada")
    use(settings, replace(portal, groups=f"ou=missing,{SUFFIX}"))
    client, answer = given_password("ada")
    assert who(client) is None and "does not answer" in answer.content.decode() and role("ada") == "operator"


@needs_directory
def test_the_doctor_looks_at_it(portal: Directory, server: DirectoryServer, settings: Any) -> None:
    from monitor_site.serving.doctor.services import directory_server

    assert directory_server().level == "ok"
    use(settings, replace(portal, bind_password="wrong"))
    found = directory_server()
    assert (found.level, SEARCHERS_PASSWORD in found.text) == ("problem", False) and "STEERSMAN_LDAP_" in found.remedy
    use(settings, replace(portal, users=f"ou=missing,{SUFFIX}"))
    assert directory_server().level == "problem"
    use(settings, replace(portal, user_filter="(&(uid=%(user)s)(uid=nobody))"))
    assert directory_server().level == "warning"


def test_the_doctor_says_that_there_is_none() -> None:
    from monitor_site.serving.doctor.services import directory_server

    assert (directory_server().level, directory_server().text) == ("ok", "none is set up")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"URL": ""}, "STEERSMAN_LDAP_URL is empty, but other settings of the directory are not ("),
        ({"URL": "http://x"}, "STEERSMAN_LDAP_URL is 'http://x': give ldaps://"),
        ({"URL": "ldap.example.org"}, "give ldaps://"),
        ({"USERS": ""}, "STEERSMAN_LDAP_USERS is empty"),
        ({"USER_FILTER": "(uid=ada)"}, "STEERSMAN_LDAP_USER_FILTER does not contain"),
        ({"GROUPS": ""}, "set both STEERSMAN_LDAP_ROLES and STEERSMAN_LDAP_GROUPS"),
        ({"ROLES": "ml=lab:boss"}, "STEERSMAN_LDAP_ROLES: 'ml=lab:boss' is not a rule"),
        ({"CA_FILE": "/nowhere.pem"}, "STEERSMAN_LDAP_CA_FILE: there is no file '/nowhere.pem'"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.directory.LIBRARY", "django")
    with pytest.raises(ImproperlyConfigured, match=named.replace("(", r"\(")):
        directory(given(monkeypatch, **changed))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.directory.LIBRARY", "no_such_library")
    with pytest.raises(ImproperlyConfigured, match="pip install -r requirements-ldap.txt"):
        directory(given(monkeypatch))


@pytest.mark.parametrize(
    ("url", "starts_tls"),
    [
        ("ldap://ldap.example.org", True), ("ldap://localhost:1389", False), ("ldap://127.0.0.1", False),
        ("ldaps://ldap.example.org", False), ("ldapi:///run/slapd/ldapi", False),
        ("ldap://localhost.example.org", True),
    ],
)  # fmt: skip
def test_a_password_never_travels_in_clear(url: str, starts_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor_site.environment.directory.LIBRARY", "django")
    chosen = directory(given(monkeypatch, URL=url))
    assert chosen is not None and chosen.starts_tls is starts_tls
    assert chosen.roles[0] == GroupRole("ml", "lab", "viewer") and SEARCHERS_PASSWORD not in repr(chosen)
