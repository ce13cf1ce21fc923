"""Running it: portal, embedded Redis-protocol server, Daphne and their processes. An app, at the top.

May import everything. The ASGI application: `monitor_site.asgi`. Trainings: `trainer`.
"""
