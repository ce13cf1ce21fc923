"""Trainings on a host without Django, by `steersman run`."""
