"""A training host without Django, and a small portal for it."""
