"""Processes that die on a host: ours, killed with -9."""
