"""Branches in the API: schemas and answers."""
