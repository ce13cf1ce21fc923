"""Several runs side by side: their curves over each other, their parameters and metrics in tables.

The number of queries of each view depends neither on the number of runs nor on their length. May import what
`runs.portal` may, and `runs.portal.run_table`. Points are read in `runs.series.many_runs`.
"""
