"""The connection of a hub to the channel layer. Which events are delivered to whom is decided in `runs.live`.

Imports the announcer of `runs.recording`, which sends what arrives here.
"""
