"""Finds the layer in which a fault began, from the norms of layers. Pure functions; no Django, no torch.

The training records the norms (`steersman.layers`), and `runs.alerts.detectors` looks up the layer when an alarm
begins.
"""
