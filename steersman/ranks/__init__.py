"""Several training processes as one run: the rank of this process, and the barrier where ranks wait.

Imports the standard library and `steersman.files`. The run of such a training is in `steersman.ranked_run`;
`steersman.agent.launch` starts ranks.
"""
