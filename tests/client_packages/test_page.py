"""The page *Train on another machine*: its lines are those of the address of the portal, and they are true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

import steersman
from runs.access.tokens import digest
from runs.models import AccessToken, Membership, Project, Role
from tests.client_packages.small_wheel import write_wheel
from tests.portal.test_chinese import english_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def served(settings: Any, tmp_path: Path) -> Path:
    settings.STEERSMAN_CLIENT_PACKAGES = tmp_path / "served"
    return tmp_path / "served"


def page(host: str = "localhost", language: str = "en", **options: Any) -> str:
    client = Client(headers={"host": host, "accept-language": language})
    client.force_login(User.objects.get_or_create(username="viewer")[0])
    answer = client.get(reverse("install_client"), **options)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize(
    ("host", "secure", "words"),
    [
        ("steersman.example.org", True, "--index-url https://steersman.example.org/client/simple/"),
        ("localhost:8765", False, "--index-url http://localhost:8765/client/simple/"),
        ("127.0.0.1:8765", False, "--index-url http://127.0.0.1:8765/client/simple/"),
        ("[::1]:8765", False, "--index-url 'http://[::1]:8765/client/simple/'"),
        (
            "gpu1.lab:8765",
            False,
            "--index-url http://gpu1.lab:8765/client/simple/ --trusted-host gpu1.lab:8765",
        ),
    ],
)
def test_the_line_is_of_the_address_by_which_the_portal_was_reached(
    served: Path, settings: Any, host: str, secure: bool, words: str
):
    settings.ALLOWED_HOSTS = ["*"]
    write_wheel(served, steersman.__version__)
    shown = page(host, secure=secure)
    line = f"pip install {words} 'steersman[agent]'"
    assert f">{escape(line)}<" in shown
    address = shlex.split(words)[1].removesuffix("/client/simple/")
    assert f">{escape(shlex.join(['steersman', 'login', address]))}<" in shown
    assert f"Version {steersman.__version__}" in shown and "make client" not in shown
    for command in ("install", "login", "train"):
        assert f'data-copy="#{command}-command">Copy command<' in shown
    assert shlex.split(words)[1].endswith("/client/simple/")


def test_it_offers_no_line_that_would_fail(served: Path):
    shown = page()
    assert shown.count("make client") == 1 and "pip install" not in shown
    served.mkdir()
    (served / "psutil-7.0.0-py3-none-any.whl").write_bytes(b"")
    assert "pip install" not in page()


def test_it_says_where_the_packages_are_of_another_version(served: Path):
    write_wheel(served, "99.1")
    shown = page()
    assert "The packages are of version 99.1" in shown and steersman.__version__ in shown


def test_the_form_of_a_new_run_leads_to_it(served: Path):
    client = Client()
    client.force_login(User.objects.create_user("newcomer"))
    assert reverse("install_client") in client.get(reverse("new_run")).content.decode()


def test_it_makes_a_token_that_trains_and_shows_it_once(served: Path):
    write_wheel(served, steersman.__version__)
    project = Project.objects.create(name="Lab", slug="lab")
    other = Project.objects.create(name="Other", slug="other")
    client = Client()
    user = User.objects.create_user("operator")
    client.force_login(user)
    Membership.objects.create(project=project, user=user, role=Role.OPERATOR)
    Membership.objects.create(project=other, user=user, role=Role.VIEWER)
    address = reverse("install_client")
    asked = client.get(address).content.decode()
    assert 'value="lab"' in asked and 'value="other"' not in asked
    assert client.post(address, {"project": "other"}).status_code == 404
    assert client.post(address, {}).status_code == 404 and not AccessToken.objects.exists()
    shown = client.post(address, {"project": "lab"}).content.decode()
    (value,) = re.findall(r'value="(stm_[^"]+)"', shown)
    token = AccessToken.objects.get()
    assert (token.digest, token.scope, token.project, token.created_by) == (digest(value), "train", project, user)
    assert "stm_" not in client.get(address).content.decode()


def test_it_is_for_people_who_have_logged_in():
    assert Client().get(reverse("install_client")).status_code == 302


@pytest.mark.parametrize("version", ["", steersman.__version__, "99.1"])
def test_all_that_it_says_is_chinese_too(served: Path, version: str):
    if version:
        write_wheel(served, version)
    assert english_of(page(language="zh-CN")) == []
