"""What a project keeps of its runs that ended: coarser points after some days, fewer checkpoints, and a smaller file.

Imports `runs.models`, `runs.recording`, `runs.series` and `steersman`.
"""
