"""Branches: opens a run at a checkpoint of another run, and returns the family of a run. Does not import torch."""
