"""Alerts on trainings. `detectors` judges points of series; it imports neither Django nor torch.

Alerts on crashed, restarted and lost runs and on full disks do not depend on points: see `runs.recording`.
"""
