"""`manage.py first_login`: creates the first account of an empty installation; does nothing in any other."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from monitor_site.serving.demo.accounts import ALPHABET, PASSWORD_LENGTH
from monitor_site.serving.service import CannotRun, refuse_unfit_data
from runs.models import Membership, Project, Role
from steersman.exit_codes import EXIT_BAD_INPUT

NAME = "admin"


class Command(BaseCommand):
    help = (
        "If there is no account yet, create an administrator with a generated password and a project, and print the "
        "login once. `manage.py changepassword admin` replaces a lost password."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            refuse_unfit_data()
        except CannotRun as reason:
            raise CommandError(str(reason), returncode=EXIT_BAD_INPUT) from reason
        if User.objects.exists():
            return
        password = "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))
        try:
            with transaction.atomic():
                user = User.objects.create_superuser(NAME, password=password)
                project, _ = Project.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
                Membership.objects.create(project=project, user=user, role=Role.OWNER)
        except IntegrityError:
            # Another process was faster and prints its own.
            return
        self.stdout.write(f"login {NAME} {password}")
        self.stdout.write("This password is shown once: change it after the first login.")
