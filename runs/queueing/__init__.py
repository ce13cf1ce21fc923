"""The runs that train on each host and those that wait there, limited to what a viewer may see.

Imports `runs.models`, `runs.recording` and `runs.access`. The queue itself is in `runs.recording.queue`.
"""
