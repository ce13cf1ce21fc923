"""A training host without Django, and the portal that it reaches."""
