"""Messages between the host side and the record side of a supervisor, as dataclasses. Standard library only.

Imports `steersman.records` and `steersman.values`. The host side is in `steersman.agent`, the record side in
`runs.recording.record_side`.
"""
