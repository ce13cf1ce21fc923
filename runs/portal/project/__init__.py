"""The page of a project: what it is for, what trains, what was best, who belongs to it, and what it uses."""
