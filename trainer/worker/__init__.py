"""The training process: loop, recipe, evaluation, checkpoints, random numbers.

Imports torch and `steersman`; never Django or `runs`. Starting this process: `steersman.agent.launch`.
"""
