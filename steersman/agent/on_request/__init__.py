"""The agent: starts trainings on this host that people request in a portal, from the commands that a file lists.

Each training is a process tree of its own, `steersman run`, which outlives the agent. Never imports Django or torch.
"""
