"""What viewers take up and who they are, over all web processes: places for sockets, and the watchers of each run.

Plain bookkeeping, without database and sockets: `runs.live.exchange` carries it between the processes.
"""
