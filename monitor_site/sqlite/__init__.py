"""The SQLite database engine with files for their owner alone."""
