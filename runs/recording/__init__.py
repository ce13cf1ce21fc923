"""Writes the record: states of a run, the feed of events, the queue.

Imports `runs.models` and `runs.protocol`. `record_side` stores the records of a journal as rows; `runs.series` packs
points.
"""
