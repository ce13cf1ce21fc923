"""The two ends of `tests.chaos.interface`, the training that they follow, and the connection between them."""
