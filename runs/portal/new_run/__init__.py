"""The form of a new run, and the views that create, queue and withdraw one.

Imports what `runs.portal` imports. The queue itself: `runs.recording.queue`.
"""
