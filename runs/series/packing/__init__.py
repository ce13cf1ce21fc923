"""Points, their summaries, and the packed columns of both.

NumPy and zlib alone: what is stored where is `runs.series`.
"""
