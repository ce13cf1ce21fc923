"""The package index at /client/simple/, from which pip installs `steersman` and its dependencies: PEP 503 and PEP 691.

Needs no database and no login. Imports Django, msgspec and packaging, and of this project only `steersman`. `make
client` (scripts/client.py) fills the folder; the page with the pip command is in `runs.portal.new_run`.
"""
