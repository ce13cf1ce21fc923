"""What starts `steersman run` on a cluster: torchrun, Slurm; and why Slurm has ended a job."""
