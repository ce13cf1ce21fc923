"""A run of which everything is recorded, for tests of what its pages show."""
