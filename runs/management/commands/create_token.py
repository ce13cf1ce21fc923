"""Creates an API token or a share token from the command line, for installations without a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runs.access.tokens import TokenRefused, create_token
from runs.models import Project, Run, TokenScope
from runs.protocol.storable_text import option_text
from steersman.exit_codes import EXIT_BAD_INPUT

OPTIONS = {"scope": "--scope", "user": "--user", "run": "--run", "expires_at": "--days", "name": "--name"}
LONGEST_DAYS = 36_500


class Command(BaseCommand):
    help = "Create a token and print its value once: only its hash is stored. A share token opens PORTAL/share/VALUE/."

    # The checks would load every page and the API to write one row.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", type=option_text, required=True, metavar="SLUG", help="slug of the project")
        parser.add_argument("--run", type=int, metavar="N", help="limit the token to this run (required for share)")
        parser.add_argument("--scope", required=True, choices=TokenScope.values, help="what the token allows")
        parser.add_argument(
            "--user", type=option_text, required=True, metavar="NAME", help="the member in whose name the token acts"
        )
        parser.add_argument("--days", type=int, metavar="N", help="valid for this many days; unlimited by default")
        parser.add_argument(
            "--name", type=option_text, default="", help="name of the token; derived from the scope by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise _refused(
                "--project",
                f"there is no project {options['project']}; give the short name in the address of its page.",
            )
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise _refused(
                "--user", f"there is no active user {options['user']}; the portal lists all users under /admin/."
            )
        run = None
        if options["run"] is not None:
            run = Run.objects.filter(pk=options["run"], project=project).first()
            if run is None:
                raise _refused(
                    "--run",
                    f"project {project.slug} has no run {options['run']}; "
                    "give the number in the address of the run's page.",
                )
        days = options["days"]
        if days is not None and not 1 <= days <= LONGEST_DAYS:
            raise _refused("--days", f"give a whole number from 1 to {LONGEST_DAYS}.")
        try:
            _, value = create_token(
                user,
                project,
                options["scope"],
                name=options["name"] or f"{options['scope']} by command line",
                run=run,
                expires_at=timezone.now() + timedelta(days=days) if days else None,
            )
        except TokenRefused as reason:
            raise _refused(OPTIONS.get(reason.field, "create_token"), str(reason)) from reason
        self.stdout.write(value)


def _refused(option: str, sentence: str) -> CommandError:
    return CommandError(f"{option}: {sentence}", returncode=EXIT_BAD_INPUT)
