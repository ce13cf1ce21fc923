"""`make demo`: accounts, a training to look at, and the processes around it."""
