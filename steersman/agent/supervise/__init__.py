"""What a supervisor does beside the training: heartbeat, signals, a forced exit, detecting stalls.

Imports `steersman.files` and psutil. The supervisor itself: `trainer.control.supervisor`.
"""
