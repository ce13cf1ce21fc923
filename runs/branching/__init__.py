"""Branches: opens a run at a checkpoint of another one, and returns the family of a run. Does not import torch."""
