"""The programs that `tests/gpu_check.py` runs on a machine with a GPU.

Each module is a separate program, prints one JSON object as its last line, and accepts `--device` (cpu: a rehearsal,
which proves that the program works, but nothing about a GPU).
"""
