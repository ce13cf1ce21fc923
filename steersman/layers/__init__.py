"""Norms of the layers of a torch model: the grouping of parameters, the measures, and the steps of measurement.

`watching` has hooks at the steps of optimizers, `measuring` computes norms with torch, `naming` groups parameters.
Standard library only; uses torch only where it is loaded already.
"""
