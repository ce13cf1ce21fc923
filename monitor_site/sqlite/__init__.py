"""The SQLite database engine with files that only their owner can access."""
