"""Reading and changing optimizers and schedules of torch for knobs, without importing torch."""
