"""The messages of `steersman.messages` as bytes, for a host side and a record side in different processes.

Imports msgspec, `steersman.messages` and `steersman.files`. Used by both sides, but not by a training.
"""
