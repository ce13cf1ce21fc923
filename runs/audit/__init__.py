"""The audit: who signed in, and who changed accounts, access and alerts. Written by signals, read with the commands.

Imports `runs.access`, `runs.sign_in` and `runs.models`.
"""
