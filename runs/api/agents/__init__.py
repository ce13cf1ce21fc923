"""Agents in the API: their reports, and requests of people for runs that they start. The rows: `runs.agents`."""
