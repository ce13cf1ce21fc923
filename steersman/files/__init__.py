"""Files that processes of a run share: journal, mailbox, locks, checkpoints, and their permissions.

Imports only the standard library. `steersman.agent.folders` has the paths of a run.
"""
