"""Processes of this project that die on a host, killed with SIGKILL."""
