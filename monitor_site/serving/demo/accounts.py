"""The demo's project and accounts. Passwords are generated, and stored in the data folder to be printed again."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction

from runs.models import Membership, Project, Role

PROJECT = "demo"
LOGINS_FILE = "demo_logins.json"
# The account `admin` also administers the site, and owns the project like `owner`.
ROLES = {"owner": Role.OWNER, "operator": Role.OPERATOR, "viewer": Role.VIEWER, "admin": Role.OWNER}
# Without letters that look alike: 16 of them carry 92 random bits and can still be typed.
ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
PASSWORD_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Login:
    """An account to try.

    `password` is None if it was changed, or if a person created the account.
    """

    role: str
    user: str
    password: str | None

    def __str__(self) -> str:
        return f"login {self.role} {self.user} {self.password or '(a password of your own)'}"


def prepare_accounts(data: Path) -> list[Login]:
    """Create the project and the missing accounts; return a login for every role."""
    existing = set(User.objects.filter(username__in=ROLES).values_list("username", flat=True))
    passwords = _read(data / LOGINS_FILE)
    missing = [name for name in ROLES if name not in existing and name not in passwords]
    if missing:
        passwords |= {name: "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH)) for name in missing}
        # Before the accounts, because an account without a stored password would be useless.
        _write(data / LOGINS_FILE, passwords)
    with transaction.atomic():
        project, _ = Project.objects.get_or_create(slug=PROJECT, defaults={"name": "Demo"})
        return [_prepare(project, role, passwords.get(role), role in existing) for role in ROLES]


def _prepare(project: Project, role: str, password: str | None, exists: bool) -> Login:
    if exists:
        user = User.objects.get(username=role)
        known = password if password is not None and user.check_password(password) else None
    elif role == "admin":
        user = User.objects.create_superuser(role, password=password)
        known = password
    else:
        user = User.objects.create_user(role, password=password)
        known = password
    Membership.objects.get_or_create(project=project, user=user, defaults={"role": ROLES[role]})
    return Login(role, user.username, known)


def _read(path: Path) -> dict[str, str]:
    try:
        passwords: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return passwords


def _write(path: Path, passwords: dict[str, str]) -> None:
    partial = path.with_suffix(".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(passwords, file, indent=1)
    partial.replace(path)
