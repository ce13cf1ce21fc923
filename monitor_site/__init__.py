"""Settings, URLs and the ASGI application, and the code that the settings need.

Imports `runs.live` (routing) and `steersman`. Servers and the demo are in `monitor_site.serving`.
"""
