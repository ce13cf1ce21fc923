"""Checkpoints that a training process writes and reads: their content and their retention.

Standard library only; uses torch only if it is already loaded.
"""
