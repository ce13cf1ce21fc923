"""Where the package of this process lies, and the variable that both processes of `steersman run` read."""

from __future__ import annotations

from pathlib import Path

import steersman

# The folder of the package never leaves the host; the one around it is where a training finds `import steersman`.
APPLICATION = Path(steersman.__file__).resolve().parent
STOP_SIGNAL_VARIABLE = "STEERSMAN_STOP_SIGNAL"
