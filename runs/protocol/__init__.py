"""Typed messages: events to viewers, commands from them, and descriptions of arguments. No Django.

Imports msgspec and `steersman`. Events are sent by `runs.recording.feed`, commands are stored by `runs.commands`.
"""
