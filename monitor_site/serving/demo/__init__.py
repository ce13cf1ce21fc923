"""`make demo`: accounts, a training to watch, and the processes around it."""
