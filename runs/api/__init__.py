"""The JSON API under /api/ (Django Ninja): data for scripts and for the pages, and commands.

Imports all of `runs` except `portal` and `admin`.
"""
