"""How people log in: sessions, the second factor, single sign-on.

Imports `runs.access` and `runs.models`. Permissions after the login are in `runs.access`.
"""
