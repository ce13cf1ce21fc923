"""The list of runs: search, order, columns and refreshing."""
