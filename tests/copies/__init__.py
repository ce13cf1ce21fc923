"""Pushed checkpoints in the data folder, in a storage without paths, and in a bucket."""
