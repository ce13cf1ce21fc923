"""Pruning of ended runs by the rules of their project: coarser points, fewer checkpoints, a smaller database file.

Imports `runs.models`, `runs.recording`, `runs.series` and `steersman`.
"""
