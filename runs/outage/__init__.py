"""The answers of the portal while the database is unavailable or busy."""
