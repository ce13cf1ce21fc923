"""The parts of `python -m tests.image_check`: base images, builds, and containers without an engine."""
