"""The record side of a supervisor: what training hosts report, compared with what is stored; folding of events.

Imports `runs.models`, `runs.recording`, `runs.series` and `steersman.messages`; never looks at a file of a training
host. The host side: `steersman.agent`. What becomes of each record: `trainer.ingest`.
"""
