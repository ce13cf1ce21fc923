"""Reads and checks settings from environment variables. Imports nothing of this project but `steersman`."""
