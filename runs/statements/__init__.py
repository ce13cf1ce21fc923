"""SQL for the rows that change with every report of a training.

Building a query with a `QuerySet` takes ten times as long as SQLite needs to execute it, and a report is one of
hundreds per second. `repeated` builds the SQL of each kind of statement once. `write_probe` tries whether a report
could be stored now.
"""
