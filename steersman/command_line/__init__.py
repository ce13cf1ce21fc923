"""The command `steersman`: log in to a portal, and train on this machine with a portal elsewhere.

Standard library only. `steersman run` also imports `steersman.agent`, and says so if its dependencies are missing.
"""
