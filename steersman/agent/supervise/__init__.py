"""The parts of a supervisor beside the training: heartbeat, signals, delivery of commands, detection of stalls.

Imports `steersman.files` and psutil. The supervisor itself is in `steersman.agent.host_side`.
"""
