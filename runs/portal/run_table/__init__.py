"""The list of runs: what is searched for, sorted by, shown in columns, and kept fresh."""
