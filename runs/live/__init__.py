"""What viewers receive: the handshake, a snapshot, the history, then events as they come.

Imports `runs.commands`, `runs.series`, `runs.access` and below. The protocol is described in docs/protocol.md.
"""
