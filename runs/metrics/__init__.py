"""Monitoring of the portal: `/metrics` for Prometheus, `/healthz` and `/readyz` for proxies.

Imports `runs.models`, `runs.protocol` and `runs.access`. What is counted on a socket's way is counted in `runs.live`;
what a supervisor measures of itself is written by `trainer.control`.
"""
