"""compose.yaml, played by hand."""
