"""Units of memory. Standard library only."""

MIB = 2**20
GIB = 2**30
