"""`manage.py reset_second_factor NAME`: lets somebody in again who has lost phone and recovery codes."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.sign_in.second_factor import take_away


class Command(BaseCommand):
    help = "Take the second factor and the recovery codes from a person: the password alone logs them in again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="name under which the person logs in")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"user: nobody is called {options['user']!r}; the admin lists all users.")
        taken = take_away(user)
        self.stdout.write(
            f"{user.username} logs in by password alone again." if taken else f"{user.username} has no second factor."
        )
