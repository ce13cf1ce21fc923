"""Stores recorded runs and shows them (Django). Importing this package imports nothing else.

Never imports torch, `trainer`, `steersman.agent` or `monitor_site`. `protocol` and `models` are at the bottom;
`portal`, `api` and `admin` are at the top. Training is in `trainer`.
"""
