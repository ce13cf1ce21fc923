"""A training without torch that logs everything that Prometheus collects, until it is stopped."""

import time

import steersman

run = steersman.attach()
run.plan(total_steps=1_000_000, total_epochs=1_000, steps_per_epoch=1_000)
step = 0
while not run.stopping:
    step += 1
    run.log(
        step, **{"train/loss": 1 / step, "train/accuracy": 0.5, "learning_rate": 0.1, "grad_norm": 2.0, "other": 1.0}
    )
    if step == 5:
        run.log_epoch(1, train_loss=0.5, validation_accuracy=0.75, best=True)
        run.alert("Something is odd")
    time.sleep(0.02)
