"""The package index at /client/simple/, from which pip installs `steersman` and its dependencies: PEP 503 and PEP 691.

Asks no database and wants no login. Imports Django, msgspec and packaging, and of this project only `steersman`.
`make client` (scripts/client.py) fills the folder; the page that shows the command of pip is in `runs.portal.new_run`.
"""
