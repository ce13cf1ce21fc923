"""Running the portal: embedded Redis-protocol server, Daphne and their processes. The topmost app.

May import everything. The ASGI application: `monitor_site.asgi`. Trainings: `trainer`.
"""
