"""A run that a script or notebook starts in its own process: its host side, and the card that shows it.

Standard library only: what needs other packages is in the child process (`steersman.agent.remote.beginning`).
"""
