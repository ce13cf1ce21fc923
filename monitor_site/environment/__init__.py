"""What the settings take from environment variables, checked. Imports nothing of this project but `steersman`."""
