"""Copies of checkpoints that training hosts have pushed to the portal: received in pieces, verified, stored, removed.

Pieces arrive in `pushed/` of the data folder. Verified copies are in the storage `checkpoints` of Django, which is
that folder or a bucket with the interface of S3. A copy is named `RUN/SHA256/`, by the SHA-256 of its manifest. Does
not use the database.
"""
