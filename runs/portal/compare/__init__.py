"""Several runs side by side: their curves over each other, their parameters and metrics in tables.

Each view takes as many queries for fifty runs as for two, however long the runs are. May import what
`runs.portal` may, and `runs.portal.run_table`. Points are read in `runs.series.many_runs`.
"""
