"""The host side of a supervisor: processes, journals, devices. `folders` has the paths of a run's files.

Imports `steersman`, psutil, pynvml and msgspec; never Django or torch. The code that needs rows of the database is in
`runs.recording` and `trainer.control`.
"""
