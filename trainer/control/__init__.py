"""One attempt at a run, from `train --run-id N` to its end: lease, resume, supervisor, restart.

Imports `runs` and `steersman`; never torch (publishing a recipe loads it in a process of its own).
"""
