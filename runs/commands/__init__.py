"""Commands of people: recording one, parsing a typed one, wording it, replaying those of a run.

Imports `runs.access`, `runs.recording` and below. Kinds of commands: `runs.protocol.commands`. Delivery to a
training: `runs.recording.record_side.orders`.
"""
