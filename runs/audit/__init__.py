"""The audit: logins, and changes of accounts, access and alerts. Signals write it; it is shown together with commands.

Imports `runs.access`, `runs.sign_in` and `runs.models`.
"""
