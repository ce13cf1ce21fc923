"""Points, their summaries, and the packed columns of both.

Imports only NumPy and zlib; `runs.series` stores them.
"""
