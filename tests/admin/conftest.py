"""Users and data for the admin tests.

Models are imported in functions, because Django is set up after this is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

    from runs.models import Project, Recipe

SCHEMA = [
    {"name": "epochs", "kind": "int", "default": 3, "minimum": 1, "maximum": 100, "help": "passes over the images"},
    {"name": "learning_rate", "kind": "float", "default": 0.001, "help": ""},
]


@pytest.fixture
def ada(db: None) -> User:
    from django.contrib.auth.models import User

    return User.objects.create_superuser("ada", "ada@example.org", "secret", first_name="Ada", last_name="Admin")


@pytest.fixture
def client(ada: User) -> Client:
    from django.test import Client

    client = Client()
    client.force_login(ada)
    return client


@pytest.fixture
def project(db: None) -> Project:
    from runs.models import Project

    return Project.objects.create(name="Digits", slug="digits")


@pytest.fixture
def recipe(db: None) -> Recipe:
    from runs.models import Recipe

    return Recipe.objects.create(spec="mnist", title="Image classifier", parameters=SCHEMA)
