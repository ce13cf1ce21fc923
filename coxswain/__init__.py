"""Coxswain in a training process: three lines join any PyTorch script to the portal.

run = coxswain.attach()
run.log(step, loss=loss)
if run.stopping: break
"""

from coxswain.run import NullRun, Run, attach

__all__ = ["NullRun", "Run", "attach"]
