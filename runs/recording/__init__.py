"""Writing the record: states of a run, the feed of events, the queue.

Imports `runs.models` and `runs.protocol`. Records of a journal become rows in `trainer.ingest`; points in
`runs.series`.
"""
