"""Connections of viewers: the handshake, a snapshot, the history, then live events.

Imports `runs.commands`, `runs.series`, `runs.access` and below. The protocol is described in docs/protocol.md.
"""
