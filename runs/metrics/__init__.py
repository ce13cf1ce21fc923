"""Monitoring of the portal: `/metrics` for Prometheus, `/healthz` and `/readyz` for proxies.

Imports `runs.models`, `runs.protocol` and `runs.access`. `runs.live` counts the events of sockets; `trainer.control`
writes the measurements of a supervisor.
"""
