"""The host: GPUs (NVML), CPU and memory, the cause of a kill, and removal of private data from texts.

Imports psutil and pynvml. Which devices a queued run gets: `steersman.slots` and `trainer.scheduler`.
"""
