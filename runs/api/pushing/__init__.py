"""The addresses at which training hosts push checkpoints of their own runs, and fetch those of their project."""
