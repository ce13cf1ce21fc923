"""Branching: creates a run from a checkpoint of another run, and finds all runs related by branches. No torch."""
