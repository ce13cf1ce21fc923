"""The admin: what was recorded, to look at, export and delete; projects, access and new runs, to make."""

from runs.admin import accounts, hosts, invites, projects, runs, tokens

__all__ = ["accounts", "hosts", "invites", "projects", "runs", "tokens"]
