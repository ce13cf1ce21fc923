"""Detectors of alerts: faults of a training, found from its points only. No Django, no torch, no clock.

Imports `runs.protocol.series_names` and the standard library. `judge.Judge` holds all detectors of a run; the defaults
of each are in a dataclass beside it. `python -m runs.alerts.detectors FILE` judges a file. docs/alerts.md describes
them.
"""
