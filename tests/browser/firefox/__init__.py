"""The main paths of the portal in Firefox."""
