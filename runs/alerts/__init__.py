"""Alerts on trainings. `detectors` finds faults in points of series; it imports neither Django nor torch.

Alerts about crashed, restarted and lost runs and full disks do not depend on points: see `runs.recording`.
"""
