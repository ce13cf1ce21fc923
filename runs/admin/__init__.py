"""The admin: view, export and delete recorded runs; create projects, access and new runs.

Imports all of `runs` except `api` and `portal`.
"""

import django_stubs_ext

# Lets forms name their model, as in ModelForm[Run], for the type checker.
django_stubs_ext.monkeypatch()

from runs.admin import accounts, hosts, invites, projects, runs, tokens  # noqa: E402  after that

__all__ = ["accounts", "hosts", "invites", "projects", "runs", "tokens"]
