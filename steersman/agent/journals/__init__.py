"""Reads what training processes wrote: journals and consoles of all ranks.

Imports `steersman`. Journals are written by `steersman.files.journal`; `steersman.agent.reporting` reports what was
read.
"""
