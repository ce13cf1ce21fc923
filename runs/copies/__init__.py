"""Copies of checkpoints that training hosts have pushed to the portal: received in pieces, verified, removed.

A copy is a folder below `pushed/RUN/`, named by the SHA-256 of its manifest. Does not use the database.
"""
