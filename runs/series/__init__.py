"""Points of a run: stores them, packs them into chunks, reads them as charts, exports them as CSV, draws them as SVG.

Imports `runs.models`, `runs.protocol` and numpy.
"""
