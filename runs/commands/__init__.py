"""Commands of people: records them, parses typed ones, describes them in words, and replays those of a run.

Imports `runs.access`, `runs.recording` and below. Kinds of commands are in `runs.protocol.commands`, their delivery to
a training in `runs.recording.record_side.orders`.
"""
