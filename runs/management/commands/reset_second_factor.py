"""`manage.py reset_second_factor NAME`: restores the access of a person who lost phone and recovery codes."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.sign_in.second_factor import take_away


class Command(BaseCommand):
    help = "Remove a person's second factor and recovery codes, so that the password is enough to log in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="login name of the person")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"user: there is no user {options['user']!r}; the portal lists all users under /admin/.")
        taken = take_away(user)
        self.stdout.write(
            f"{user.username} now logs in by password only." if taken else f"{user.username} has no second factor."
        )
