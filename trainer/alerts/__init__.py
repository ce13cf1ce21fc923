"""Judging a training while it is recorded: points of stored ticks are passed to detectors, and their findings become
alerts.

`judging` decides without a database; `thread` writes, on a thread and a connection of its own. Imports `runs` and
`steersman`; never torch. The detectors: `runs.alerts.detectors`.
"""
