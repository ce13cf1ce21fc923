"""From records of the journals to rows and events: one transaction per tick.

Imports `runs` and `steersman`; never torch. Reading journals: `steersman.agent.journals`. Models and the feed:
`runs`.
"""
