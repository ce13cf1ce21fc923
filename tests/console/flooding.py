"""A training that prints as fast as it can: flooding.py FIRST_MIB GO_ON SECOND_MIB.

Between the two floods it waits for the file GO_ON.
"""

import sys
import time
from pathlib import Path

import steersman

first, go_on, second = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
run = steersman.attach()


def flood(name: str, mebibytes: int) -> None:
    line = "x" * 1000
    for number in range(mebibytes * 1024):
        sys.stdout.write(f"{name} {number} {line}\n")


print("the very first line")
flood("first", first)
print("between the floods")
step = 0
while not go_on.exists():
    step += 1
    run.log(step, loss=1.0)
    time.sleep(0.02)
flood("second", second)
print("the very last line")
