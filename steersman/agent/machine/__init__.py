"""The host: GPUs (NVML), CPU and memory, why a process was killed, and what text must not say about the host.

Imports psutil and pynvml. Which devices a queued run gets: `steersman.slots` and `trainer.scheduler`.
"""
