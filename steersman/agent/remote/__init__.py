"""Trainings whose portal is on another machine: `steersman run`.

A launch is one start of it, with a folder of its own. The parent at the terminal starts the host process, which follows
the training and exchanges messages with the portal through `PortalLink`. Imports `steersman` and websockets; never
Django or torch.
"""
