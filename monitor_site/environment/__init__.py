"""What the settings take from environment variables, and hold to. Imports nothing of this project but `steersman`."""
