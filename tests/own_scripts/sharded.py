"""Two ranks that train one model by FSDP and one by DistributedDataParallel.

They log the norms of whole layers, for comparison with the records of `run.watch_layers`.
"""

import os

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import steersman

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
torch.set_num_threads(1)
run = steersman.attach()
distributed.init_process_group("gloo")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))


def norm(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()).norm().item()


sharded = fully_shard(network(), mesh=init_device_mesh("cpu", (run.ranks,)))
alike = network()
for name, model in (("sharded", sharded), ("alike", alike)):
    run.watch_layers(model, every=2, name=name)
wrapped = DistributedDataParallel(alike)
optimizers = [torch.optim.AdamW(model.parameters(), lr=0.01) for model in (sharded, alike)]
torch.manual_seed(run.rank)
step = 0
while step < 6 and not run.stopping:
    step += 1
    batch = torch.randn(4, 6)
    loss = sum(model(batch).square().mean() for model in (sharded, wrapped))
    loss.backward()
    whole = {
        f"whole/{what}/{name}.{layer}": sum(norm(part(each)) ** 2 for each in model[layer].parameters()) ** 0.5
        for name, model in (("sharded", sharded), ("alike", alike))
        for what, part in (("weight", lambda each: each), ("gradient", lambda each: each.grad))
        for layer in (0, 2)
    }
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    run.log(step, loss=loss.item(), **whole)
# A rank that leaves while the other still receives from it would abort that one.
distributed.barrier()
distributed.destroy_process_group()
