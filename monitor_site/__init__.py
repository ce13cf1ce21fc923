"""Settings, addresses and the ASGI application; what the settings need to be read.

Imports `runs.live` (routing) and `steersman`. Servers and the demo: `monitor_site.serving`.
"""
