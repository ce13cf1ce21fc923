"""Which runs, in which order, with which columns: what the list and the API take from an address."""
