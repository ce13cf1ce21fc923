"""Telling people of alerts: secrets of destinations, messages, and the process that sends them.

Imports `runs.models`, `runs.recording`, `runs.access`, `runs.series` and `runs.alerts`. Rows that wait are written by
`runs.recording.deliveries`; `manage.py watch` starts the process that sends them.
"""
