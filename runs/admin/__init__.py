"""The admin: what was recorded, to look at; projects, members and new runs, to make."""

from runs.admin import accounts, projects, runs

__all__ = ["accounts", "projects", "runs"]
