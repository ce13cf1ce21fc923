"""`manage.py doctor`: finds problems of this installation, and says what to do."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from monitor_site.serving.doctor import machine, services
from monitor_site.serving.doctor.report import Check, Finding, examine, report
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED

# Three requests, each of which may be repeated.
BUCKET_TIMEOUT_S = 60.0
SHORTEST_HIDDEN_CHARACTERS = 4


class Command(BaseCommand):
    help = "Check everything that the portal and trainings need, and print problems with remedies. Changes nothing."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mail", metavar="ADDRESS", default="", help="send a test message to this address")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    def handle(self, **options: Any) -> None:
        if options["mail"]:
            try:
                validate_email(options["mail"])
            except ValidationError as error:
                raise CommandError(
                    f"mail: {options['mail']} is not a mail address. Write it like ann@example.org.",
                    returncode=EXIT_BAD_INPUT,
                ) from error
        findings = examine(checks(options["mail"]), hide_secrets)
        counts = report(findings)
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            for finding in findings:
                self._show(finding)
        if counts["problems"]:
            sys.exit(EXIT_FAILED)

    def _show(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "problem": self.style.ERROR}[finding.level]
        remedy = f". {finding.remedy}" if finding.remedy else ""
        self.stdout.write(
            f"{style(finding.level.ljust(8))} {finding.name.ljust(16)} {finding.text.rstrip('.')}{remedy}"
        )


def checks(mail_address: str) -> list[Check]:
    """Return all checks, ordered by their dependencies."""
    return [
        Check("Python", machine.python),
        Check("Name", partial(machine.former_name, os.environ, settings.BASE_DIR)),
        Check("torch", machine.torch_and_gpus, machine.TORCH_TIMEOUT_S + machine.NVML_TIMEOUT_S + 5),
        Check("disk", partial(machine.disk, settings.STEERSMAN_DATA, shared=settings.STEERSMAN_SHARED_DATA)),
        Check("clock", services.clock),
        Check("database", services.database),
        Check("recipes", services.recipes),
        Check("embedded server", services.embedded_program),
        Check("Redis", services.redis_server),
        Check("channel layer", services.channel_layer),
        Check("static files", services.static_files),
        Check("directory", services.directory_server),
        Check("pushed copies", services.checkpoint_storage, BUCKET_TIMEOUT_S),
        Check("mail", partial(services.mail, mail_address)),
        Check("public address", services.public_address),
    ]


def hide_secrets(text: str) -> str:
    """Return `text` without the passwords and keys in the settings, which error messages may contain anywhere."""
    secrets = {
        str(settings.SECRET_KEY),
        str(settings.EMAIL_HOST_PASSWORD),
        str(settings.DATABASES["default"].get("PASSWORD", "")),
        services.password_of(settings.STEERSMAN_REDIS_URL),
        settings.STEERSMAN_S3.secret_key if settings.STEERSMAN_S3 else "",
    }
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_HIDDEN_CHARACTERS:
            text = text.replace(secret, "…")
    return text
