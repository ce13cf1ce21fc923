"""Trains a compiled model and logs from the loop around it."""

import sys

import torch

import steersman

STEPS = 50
torch.manual_seed(0)
run = steersman.attach()
device = torch.device(sys.argv[1])
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 1)).to(device)
# The rehearsal has no compiler; the eager backend uses the same capture.
compiled = torch.compile(model, backend="eager" if device.type == "cpu" else "inductor")
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch, target = torch.randn(128, 64, device=device), torch.randn(128, 1, device=device)
for step in range(1, STEPS + 1):
    loss = torch.nn.functional.mse_loss(compiled(batch), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    run.log(step, loss=loss)
