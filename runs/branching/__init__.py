"""Branches: opening a run at a checkpoint of another one, and telling which run came from which. Never torch."""
