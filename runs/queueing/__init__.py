"""What each host trains now and what waits there, as it may be shown to whoever looks.

Imports `runs.models`, `runs.recording` and `runs.access`. The queue itself: `runs.recording.queue`.
"""
