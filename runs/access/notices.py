"""Signals for changes through `QuerySet.update`, for which Django sends none."""

from __future__ import annotations

from django.dispatch import Signal

# token: the `AccessToken` that was presented for the first time.
token_first_used = Signal()
# invite: the `Invite`, with its project; user: the person who joined.
invite_used = Signal()
# invite: the `Invite`, with its project.
invite_revoked = Signal()
