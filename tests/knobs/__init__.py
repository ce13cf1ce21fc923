"""Knobs of scripts: what is in effect, learning rates under schedules, and what a restart brings back."""
