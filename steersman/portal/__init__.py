"""The portals that a person has logged in to, and the requests that a training host sends to them over HTTP.

Standard library only.
"""
