"""The queue as people see it: its order, runs that wait for runs, room on GPUs, and the strip that shows it."""
