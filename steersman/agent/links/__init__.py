"""The connections over which a host process exchanges messages with a portal: a WebSocket, or long HTTPS requests.

Imports `steersman.portal`, `steersman.wire` and websockets; never Django or torch. `steersman.agent.remote.portal_link`
chooses one of them. The other end: `trainer.remote_hosts`.
"""
