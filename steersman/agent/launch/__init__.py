"""Starts the processes of a training and follows them, on one host or several.

Imports `steersman`, the other agent packages and psutil. `trainer.scheduler` chooses the next run.
"""
