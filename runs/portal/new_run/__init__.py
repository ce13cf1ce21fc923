"""The form of a new run, and the views that create, queue and withdraw a run.

Imports what `runs.portal` imports. The queue itself is in `runs.recording.queue`.
"""
