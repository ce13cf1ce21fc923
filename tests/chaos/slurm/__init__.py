"""Jobs of a private Slurm that train by `steersman run`, and all that a scheduler does to them."""
