"""The record of runs and what shows it (Django). Importing this package imports nothing.

Never imports torch, `trainer`, `steersman.agent` or `monitor_site`. `protocol` and `models` are at the bottom;
`portal`, `api` and `admin` are at the top. What trains is in `trainer`.
"""
