"""Stored data must survive when the processes that change it are killed."""
