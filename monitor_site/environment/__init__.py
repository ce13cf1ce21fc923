"""Reads and checks settings from environment variables. Of this project, it only imports `steersman`."""
