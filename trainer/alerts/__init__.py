"""Judging a training while it is recorded: points of stored ticks go to detectors, and what they find becomes alerts.

`judging` decides and knows no database; `thread` writes, on a thread and a connection of its own. Imports `runs` and
`steersman`; never torch. The detectors: `runs.alerts.detectors`.
"""
