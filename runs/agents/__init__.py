"""Agents: their reports, and the runs that people request from them. Imports `steersman.messages`."""
