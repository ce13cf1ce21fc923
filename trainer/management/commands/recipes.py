"""`manage.py recipes`: lists the recipes with their parameters; `--publish` stores them for the portal."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from steersman.exit_codes import EXIT_BAD_INPUT
from steersman.spec import specs_from_wire
from trainer.control.publish import Description, describe, known_specs, publish
from trainer.recipe_names import RecipeError


class Command(BaseCommand):
    help = (
        "List recipes with their parameters: those that you name, or else the built-in ones and those of "
        "STEERSMAN_RECIPES."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("spec", nargs="*", help="built-in name or dotted path such as mypackage.mine:MyRecipe")
        parser.add_argument(
            "--publish", action="store_true", help="store the recipes, so that the portal and create_run can use them"
        )

    def handle(self, **options: Any) -> None:
        specs = options["spec"] or known_specs(settings.STEERSMAN_RECIPES)
        failures = []
        for spec in specs:
            try:
                if options["publish"]:
                    row = publish(spec)
                    self.stdout.write(f"{spec}: {row.title}, {len(row.parameters)} parameters")
                else:
                    self._show(spec, describe(spec))
            except RecipeError as error:
                failures.append(str(error))
        if failures:
            raise CommandError("\n".join(dict.fromkeys(failures)), returncode=EXIT_BAD_INPUT)

    def _show(self, spec: str, recipe: Description) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"{spec}: {recipe['title']}"))
        for line in recipe["description"].splitlines():
            self.stdout.write(f"  {line}".rstrip())
        rows = [("parameter", "kind", "default", "takes", "")]
        rows += [
            (name, spec.kind, spec.default_text, str(spec.takes()), spec.help)
            for name, spec in specs_from_wire(recipe["parameters"]).items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        self.stdout.write("")
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            self.stdout.write(f"  {'  '.join([*cells, row[4]])}".rstrip())
        self.stdout.write("")
