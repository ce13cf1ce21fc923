"""The reports of a supervisor: makes messages for the record side from the data of a training.

Imports `steersman`; never Django or torch. `steersman.messages` has the messages, `runs.recording.record_side` stores
them.
"""
