"""The two ends of `tests.chaos.interface`, what they follow, and the way between them."""
