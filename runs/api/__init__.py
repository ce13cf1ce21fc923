"""The JSON API under /api/ (Django Ninja).

Imports all of `runs` except `portal` and `admin`. Addresses that only the pages read: `runs.portal.data`.
"""
