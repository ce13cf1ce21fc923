"""Checkpoints that a training process writes and reads: their content, and which of them it keeps.

Standard library only; uses torch only where it is loaded already.
"""
