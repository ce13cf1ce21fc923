"""Data that processes exchange, as dataclasses: records of a journal, posted commands, decisions of ranks.

Imports `steersman.values`. The files that carry them: `steersman.files`. What viewers receive: `runs.protocol`.
"""
