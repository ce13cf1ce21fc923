"""Alerts on trainings. `detectors` judges points of series; it imports neither Django nor torch.

Crashed, restarted and lost runs, and full disks, are no matter of points: see `runs.recording`.
"""
