"""Rules of projects and runs in the database: their precedence, trials on recorded points, and actions.

Imports `runs.models`, `runs.recording`, `runs.series`, `runs.commands` and `runs.alerts`.
"""
