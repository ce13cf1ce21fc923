"""The runs that train on each host and those that wait there, as far as a viewer may see them.

Imports `runs.models`, `runs.recording` and `runs.access`. The queue itself: `runs.recording.queue`.
"""
