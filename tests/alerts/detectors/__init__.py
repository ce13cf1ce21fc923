"""Detectors alone: faults that they find, healthy curves that they leave alone, the judge that holds them."""
