"""The ledger distinguishes people with similar names, whatever names they choose."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User

from runs.access.author_names import LONGEST, distinct_name
from runs.access.guest_view import replace_names
from runs.access.roles import display_name
from runs.commands.record import record
from runs.models import Membership, Project, Run, as_wire
from runs.protocol.commands import Note, Request


@pytest.fixture
def project(db: None) -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for name, full_name in (("ada", "Ada Lovelace"), ("owner", ""), ("mallory", "Mallory")):
        user = User.objects.create_user(name, first_name=full_name)
        Membership.objects.create(project=project, user=user, role="operator")
    User.objects.create_user("elsewhere", first_name="Somebody Else")
    return project


def named(project: Project, full_name: str, token: str = "") -> str:
    mallory = User.objects.get(username="mallory")
    mallory.first_name = full_name
    mallory.save()
    return distinct_name(mallory, project.pk, display_name(mallory) + token)


@pytest.mark.parametrize(
    "posed",
    [
        "Ada Lovelace", "ada lovelace", "Ada  Lovelace ", "Ada\u200bLovelace", "Adа Lovelace", "Ada Love1ace", "ADA",
        "Ａｄａ Lovelace", "owner", "Owner", "0wner", "the command line", "SIGTERM", "rule spike", "make demo", "...",
        "Ada Lovelace (ci)", "Ada\u3164 Lovelace", "Ada Lovelace\uffa0", "Adɑ Lovelace", "Ada Loveӏace", "ꓮꓓꓮ", "ᎪᎠᎪ",
        "СЕВА", "ΚΙΝΑ", "Ada Lഠvelace", "Ada Loveǀace", "ovvner",
    ],
)  # fmt: skip
def test_who_poses_as_somebody_else_is_named_by_the_login_too(project: Project, posed: str) -> None:
    assert named(project, posed) == f"{display_name(User.objects.get(username='mallory'))} (mallory)"


@pytest.mark.parametrize(
    "own",
    [
        "Mallory",
        "Mallory Archer",
        "Somebody Else",
        "陈小明",
        "Иван",
        "José",
        "Łukasz Ørsted",
        "Νίκος Παππάς",
        "陈小明 Tom",
        "محمد",
    ],
)
def test_a_name_of_ones_own_stays(project: Project, own: str) -> None:
    assert named(project, own) == own


@pytest.mark.parametrize("posed", ["Owner", "Mallory"])
def test_what_is_too_long_for_the_ledger_keeps_the_login(project: Project, posed: str) -> None:
    shown = named(project, posed + "\u3164" * 120, f" ({'nightly' * 20})")
    assert len(shown) <= LONGEST and shown.startswith(posed) and " (mallory)" in shown


def test_a_token_of_who_poses_is_named_too(project: Project) -> None:
    assert named(project, "Owner", " (nightly)") == "Owner (mallory) (nightly)"
    assert named(project, "Mallory", " (nightly)") == "Mallory (nightly)"


def test_the_ledger_keeps_name_and_id(project: Project) -> None:
    run = Run.objects.create(project=project, name="one", state="running", attempt=1)
    named(project, "Owner")
    mallory = User.objects.get(username="mallory")
    request = Request(id=uuid4(), command=Note(text="hello"))
    row = record(run.pk, request, author_id=mallory.pk, author_name=display_name(mallory))
    wire: dict[str, Any] = as_wire(row)
    assert (wire["author"], wire["author_id"]) == ("Owner (mallory)", mallory.pk)
    replace_names([wire])
    assert (wire["author"], wire["author_id"]) == ("operator", None)
