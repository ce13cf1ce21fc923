"""Data that processes exchange, as dataclasses: records of a journal, posted commands, decisions of ranks.

Imports `steersman.values`. `steersman.files` writes and reads them; `runs.protocol` has the events for viewers.
"""
