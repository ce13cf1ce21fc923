"""Coxswain in a training process: three lines join any PyTorch script to the portal.

run = coxswain.attach()
run.log(step, loss=loss)
if run.stopping: break
"""

from coxswain.attaching import NullRun, attach
from coxswain.control import Done, Refusal
from coxswain.knobs import Knob, KnobError
from coxswain.run import Run

__all__ = ["Done", "Knob", "KnobError", "NullRun", "Refusal", "Run", "attach"]
