"""Checkpoints that a training process writes and finds again: what is in them, and which of them it keeps.

Standard library only; uses torch only where it is loaded already.
"""
