"""The list of runs in the API: its search, saved views, and their schemas."""
