"""Signals of changes by `QuerySet.update`, for which models send none."""

from __future__ import annotations

from django.dispatch import Signal

# token: the `AccessToken` that was presented for the first time.
token_first_used = Signal()
# invite: the `Invite`, with its project; user: who joined by it.
invite_used = Signal()
# invite: the `Invite`, with its project.
invite_revoked = Signal()
