"""What `tests/gpu_check.py` looks at on a machine with a GPU.

Each module is a program of its own, prints one JSON object as its last line, and takes `--device` (cpu: a rehearsal,
which proves the program and nothing of a GPU).
"""
