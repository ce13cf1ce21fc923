"""Runs the portal: embedded Redis-protocol server, Daphne and their processes. The topmost app.

May import everything. The ASGI application is in `monitor_site.asgi`, trainings are in `trainer`.
"""
