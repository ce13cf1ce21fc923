"""Fixtures that the tests of pages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings


@pytest.fixture
def places(db: None, capsys: pytest.CaptureFixture[str], settings: LazySettings, tmp_path: Path) -> dict[str, Any]:
    """A project with content for every page, and the numbers of that content."""
    # Runs of several processes have the same numbers.
    settings.STEERSMAN_DATA = tmp_path
    # pytest reads this file before Django is set up.
    from django.contrib.auth.models import User

    from runs.models import Role
    from tests.browser.seed import seed
    from trainer.control.publish import publish
    from trainer.recipe_names import BUILT_IN

    for name in (*Role.values, "admin"):
        User.objects.create_user(name, is_staff=name == "admin", is_superuser=name == "admin")
    for spec in BUILT_IN:
        publish(spec)
    seed()
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found
