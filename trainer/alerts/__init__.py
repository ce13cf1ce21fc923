"""Judges a training while it is recorded: passes the points of stored ticks to detectors, and turns their findings into
alerts.

`judging` decides without a database; `thread` writes, with its own thread and connection. Imports `runs` and
`steersman`; never torch. The detectors are in `runs.alerts.detectors`.
"""
