"""How people sign in: their sessions, the second factor, single sign-on.

Imports `runs.access` and `runs.models`. What a person may do once they are in: `runs.access`.
"""
