"""The reports of a supervisor: from what was read of a training to the messages that the record side stores.

Imports `steersman`; never Django or torch. The messages: `steersman.messages`. What stores them:
`runs.recording.record_side`.
"""
