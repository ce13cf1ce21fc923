"""The socket of training hosts without access to the database, `/ws/hosts/`: admits them and answers their messages.

Runs in a process of its own, `manage.py record`. Imports Django, the record side, `trainer.alerts` and
`trainer.control`; never torch. The messages: `steersman.messages`. The other end: `steersman.agent.host_side`.
"""
