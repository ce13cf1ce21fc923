"""Replays: reads the ledger of a run, and asks the same of another run. Does not import torch."""
