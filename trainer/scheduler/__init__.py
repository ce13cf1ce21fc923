"""`manage.py watch`, one per host: starts queued runs, marks lost runs, restarts supervisors.

Imports `trainer.control`, `runs` and `steersman`; never torch.
"""
