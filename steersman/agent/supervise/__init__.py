"""What a supervisor does beside the training: heartbeat, signals, handed-on commands, detecting stalls.

Imports `steersman.files` and psutil. The supervisor itself: `steersman.agent.host_side`.
"""
