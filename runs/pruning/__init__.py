"""Prunes ended runs by the retention rules of their project: coarser points, fewer checkpoints, a smaller database
file.

Imports `runs.models`, `runs.recording`, `runs.series` and `steersman`.
"""
