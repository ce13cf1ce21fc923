"""A training with many series, one of which becomes NaN at intervals; it writes the time of each NaN to a file.

usage: failing_series.py FILE ALERTS PAUSE_S
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import steersman

WARM_UP_STEPS = 50
STEP_S = 0.02


def main(path: Path, alerts: int, pause_s: float) -> None:
    chance = random.Random(1)
    run = steersman.attach()
    fallen = 0
    begun = time.monotonic() + WARM_UP_STEPS * STEP_S
    step = 0
    with path.open("w") as moments:
        while not run.stopping:
            step += 1
            values = {f"signal/{number}": 1 + chance.gauss(0, 0.01) for number in range(fallen, alerts)}
            if fallen < alerts and time.monotonic() >= begun + fallen * pause_s:
                values[f"signal/{fallen}"] = float("nan")
                moments.write(json.dumps({"number": fallen, "at": time.time()}) + "\n")
                moments.flush()
                fallen += 1
            run.log(step, **values)
            time.sleep(STEP_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
