"""Who may do what: roles, tokens, tickets, invitations, and what revokes a right.

Imports `runs.models`, `runs.protocol` and `runs.recording`. The handshake of a socket: `runs.live.handshake`.
"""
