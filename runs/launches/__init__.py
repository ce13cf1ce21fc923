"""Runs of hosts without access to the database: a token opens them, once per launch. Imports Django."""
