"""Places for sockets, and the watchers of each run, across all web processes.

Plain data structures, without database and sockets: `runs.live.exchange` synchronises them between processes.
"""
