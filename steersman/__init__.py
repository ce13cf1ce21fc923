"""Steersman in a training process: three lines join any PyTorch script to the portal.

run = steersman.attach()
run.log(step, loss=loss)
if run.stopping: break
"""

from steersman.attaching import NullRun, attach
from steersman.control import Done, Refusal
from steersman.knobs import Knob, KnobError
from steersman.run import Run

__all__ = ["Done", "Knob", "KnobError", "NullRun", "Refusal", "Run", "attach"]
