"""The training process: loop, recipe, evaluation, checkpoints, random numbers.

Imports torch and `steersman`; never Django or `runs`. `steersman.agent.launch` starts this process.
"""
