"""Writing the record: states of a run, the feed of events, the queue.

Imports `runs.models` and `runs.protocol`. Records of a journal become rows in `record_side`;
points are packed in `runs.series`.
"""
