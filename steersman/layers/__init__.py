"""Norms of the layers of a torch model: which parameters are a layer, what is measured of it, and when.

`watching` hangs on the steps of optimizers, `measuring` asks torch for norms, `naming` says which layers a model has.
Standard library only; uses torch only where it is loaded already.
"""
