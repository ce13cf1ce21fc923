"""The record side of a supervisor: compares reports of training hosts with the database, and stores them as rows.

Imports `runs`, `steersman.messages` and `steersman.records`; never looks at a file of a training host. The host side:
`steersman.agent`.
"""
