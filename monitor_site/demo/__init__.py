"""`make demo`: the whole of Steersman on one machine, with accounts to look around and a training to watch."""
