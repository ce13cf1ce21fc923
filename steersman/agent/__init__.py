"""The host side of a supervisor: processes, journals, devices. `folders` says where the files of a run are.

Imports `steersman`, psutil, pynvml and msgspec; never Django or torch. Rows of the database: `runs.recording` and
`trainer.control`.
"""
