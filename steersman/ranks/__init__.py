"""Several training processes as one run: which rank this process is, and the barrier where ranks wait.

Imports the standard library and `steersman.files`. The run of such a training: `steersman.ranked_run`. Starting
ranks: `steersman.agent.launch`.
"""
