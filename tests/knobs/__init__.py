"""Knobs of scripts: effective values, learning rates under schedules, and the values after a restart."""
