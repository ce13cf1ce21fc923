"""Files that processes of a run share: journal, mailbox, locks, checkpoints, and their permissions.

Imports the standard library only. Which folder belongs to which run: `steersman.agent.folders`.
"""
