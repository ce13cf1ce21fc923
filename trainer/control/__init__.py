"""One attempt at a run, from `train --run-id N` to its end: lease, resume, supervisor, restart.

Imports `runs` and `steersman`; never torch (recipes are published in a separate process).
"""
