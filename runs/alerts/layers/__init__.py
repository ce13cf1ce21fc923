"""Which layer of a model began it: norms of layers, and which left its usual range first. Pure; no Django, no torch.

The training records the norms (`steersman.layers`), `runs.alerts.detectors` asks here when an alarm begins.
"""
