"""What `python -m tests.image_check` is made of: base images, builds, and containers without an engine."""
