"""What knobs read and move in optimizers and schedules of torch, which is not imported for it."""
