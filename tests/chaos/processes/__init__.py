"""What dies on a host: processes of ours, killed with -9."""
