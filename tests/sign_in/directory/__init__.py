"""Logins with the password of a directory (LDAP)."""
