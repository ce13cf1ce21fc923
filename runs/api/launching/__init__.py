"""Launches of training hosts in the API: schemas. The rows: `runs.launches`."""
