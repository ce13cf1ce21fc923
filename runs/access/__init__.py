"""Permissions: roles, tokens, tickets, invitations, and the changes that revoke them.

Imports `runs.models`, `runs.protocol` and `runs.recording`. The handshake of a socket is in `runs.live.handshake`.
"""
