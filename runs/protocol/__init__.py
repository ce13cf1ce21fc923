"""Typed messages: events to viewers, commands from them, and what an argument takes. No Django.

Imports msgspec and `steersman`. Sending an event: `runs.recording.feed`. Storing a command: `runs.commands`.
"""
