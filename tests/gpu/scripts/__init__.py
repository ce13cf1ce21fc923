"""Trainings of the GPU check, each started by `train -- SCRIPT DEVICE`."""
