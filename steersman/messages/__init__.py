"""What the host side and the record side of a supervisor send each other, as dataclasses. Standard library only.

Imports `steersman.records` and `steersman.values`. The host side: `steersman.agent`. The record side:
`runs.recording.record_side`.
"""
