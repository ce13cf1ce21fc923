"""Schemas of requests and responses, by subject. Those of branches, launches and the list are in their own packages.

Times are UTC in ISO 8601; a value that is not finite is null, and another field names it.
"""
