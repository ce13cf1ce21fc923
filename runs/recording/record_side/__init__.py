"""The record side of a supervisor: compares reports of training hosts with the database, and stores them as rows.

Imports `runs`, `steersman.messages` and `steersman.records`; it never reads a file of a training host. The host side is
in `steersman.agent`.
"""
