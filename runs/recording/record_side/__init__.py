"""The record side of a supervisor: compares what training hosts report with what is stored, and makes rows of it.

Imports `runs`, `steersman.messages` and `steersman.records`; never looks at a file of a training host. The host side:
`steersman.agent`.
"""
