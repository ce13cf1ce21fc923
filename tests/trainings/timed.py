"""A worker without torch that notes in a file when it made each step: timed.py NOTE PAUSE_S.

A note is the step and the time in seconds of the host's monotonic clock, both of 8 bytes, little-endian.
"""

import os
import struct
import sys
import time

import steersman

note = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
pause_s = float(sys.argv[2])
run = steersman.attach()
step = 0
while not run.stopping:
    step += 1
    run.log(step, value=step)
    os.write(note, struct.pack("<qd", step, time.monotonic()))
    time.sleep(pause_s)
