"""The detectors by themselves: faults that they find, healthy curves without alarms, and the judge."""
