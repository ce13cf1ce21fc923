"""The JSON API under /api/ (Django Ninja): what scripts and the pages read, and commands.

Imports all of `runs` except `portal` and `admin`.
"""
