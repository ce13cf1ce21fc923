"""Points of a run: stored, packed into chunks, read as charts, exported as CSV, drawn as SVG.

Imports `runs.models`, `runs.protocol` and numpy.
"""
