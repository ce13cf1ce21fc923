"""`make demo`: the whole of Coxswain on one machine, with accounts to look around and a training to watch."""
