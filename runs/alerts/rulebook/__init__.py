"""Rules of projects and runs as the database holds them: which holds for what, trying one on the past, and acting.

Imports `runs.models`, `runs.recording`, `runs.series`, `runs.commands` and `runs.alerts`.
"""
