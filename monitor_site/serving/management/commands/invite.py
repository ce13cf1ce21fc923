"""`manage.py invite`: prints a link with which one person can join a project."""

from __future__ import annotations

from typing import Any, NoReturn
from urllib.parse import urljoin

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from monitor_site.addresses import portal_address
from runs.access.membership import INVITE_DAYS, LONGEST_INVITE_DAYS, invite, may_invite
from runs.models import Project, Role
from runs.protocol.storable_text import option_text
from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = "Print a link with which one person can join a project, with an existing or a new account."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", type=option_text, required=True, metavar="SLUG", help="the project to join")
        parser.add_argument("--role", default=Role.VIEWER, help=f"one of {', '.join(Role.values)} (default: viewer)")
        parser.add_argument(
            "--days",
            type=int,
            default=INVITE_DAYS,
            help=f"number of days for which the link is valid (default: {INVITE_DAYS})",
        )
        parser.add_argument(
            "--user",
            type=option_text,
            default="",
            metavar="USERNAME",
            help="the owner who invites (default: any owner of the project)",
        )

    def handle(self, **options: Any) -> None:
        if options["role"] not in Role.values:
            self._refuse(f"role: {options['role']!r} is not a role; use one of {', '.join(Role.values)}.")
        if not 1 <= options["days"] <= LONGEST_INVITE_DAYS:
            self._refuse(f"days: give a whole number from 1 to {LONGEST_INVITE_DAYS}.")
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            known = ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20])
            self._refuse(f"project: there is no project {options['project']!r}; choose one of: {known or 'none'}.")
        key = invite(project, options["role"], self._inviter(project, options["user"]), options["days"])
        self.stdout.write(urljoin(portal_address(), reverse("invite", args=[key])))

    def _inviter(self, project: Project, name: str) -> User:
        if name:
            user = User.objects.filter(username=name).first()
            if user is None:
                self._refuse(f"user: there is no {name!r}.")
            if not may_invite(user, project):
                self._refuse(f"user: {name} is not an owner of {project.slug}. Name an owner, or omit --user.")
            return user
        owners = User.objects.filter(memberships__project=project, memberships__role=Role.OWNER, is_active=True)
        user = owners.order_by("pk").first() or User.objects.filter(is_superuser=True, is_active=True).first()
        if user is None:
            self._refuse("user: the project has no owner; create an account with manage.py createsuperuser first.")
        return user

    def _refuse(self, sentence: str) -> NoReturn:
        raise CommandError(sentence, returncode=EXIT_BAD_INPUT)
