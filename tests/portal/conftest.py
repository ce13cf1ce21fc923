"""What tests of pages have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def places(db: None, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """A project with something on every page, and where that lies."""
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
