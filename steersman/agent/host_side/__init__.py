"""The host side of a supervisor: follows the processes of one attempt and reports what they do.

Imports `steersman`; never Django or torch. `runs.recording.record_side` stores its reports.
"""
