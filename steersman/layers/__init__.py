"""Norms of the layers of a torch model: the grouping of parameters, the measures, and the steps of measurement.

`watching` has the hooks of optimizer steps, `measuring` computes norms with torch, `naming` groups parameters. Standard
library only; uses torch only if it is already loaded.
"""
