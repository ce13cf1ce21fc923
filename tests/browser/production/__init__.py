"""compose.yaml without Docker."""
