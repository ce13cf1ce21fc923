"""Compare samples of the GPU with nvidia-smi, and measure their cost.

Prints: nvml_compared, nvml_wrong (fields for which no neighbouring sample agrees with nvidia-smi; must be 0), sample_ms
(one reading of all fields, median), sample_core_share (CPU time of the sampler divided by wall time at one sample per
second).
"""

from __future__ import annotations

import sys
import time

import torch

from steersman.agent.machine import gpu_fields, nvml
from steersman.agent.machine.sampler import Sampler
from tests.gpu.arguments import ask_smi, device_of, median, show

# nvidia-smi's name, our name, and the tolerance: the value changes between the two readings.
COMPARED = {
    "memory.used": ("memory_used_mib", 64.0),
    "memory.total": ("memory_total_mib", 1.0),
    "temperature.gpu": ("temperature_c", 2.0),
    "utilization.gpu": ("utilisation", 10.0),
    "power.limit": ("power_limit_w", 1.0),
}
LOAD_S = 3.0
READINGS = 50
RATED_S = 20.0


def keep_busy(seconds: float) -> torch.Tensor:
    """Multiply matrices on the GPU for `seconds`; return the tensor, which holds memory of the GPU."""
    held = torch.randn(8192, 8192, device="cuda:0")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        (held @ held).sum().item()
    return held


def main() -> int:
    if device_of(__doc__) == "cpu":
        print("samples: there is nothing to rehearse without a GPU", file=sys.stderr)
        show({"nvml_compared": 0, "nvml_wrong": 0})
        return 0
    nvml.open_nvml()
    gpu = nvml.list_gpus()[0]
    held = keep_busy(LOAD_S)
    before = gpu_fields.read(gpu)
    told = ask_smi(list(COMPARED))
    after = gpu_fields.read(gpu)
    wrong = []
    for field, (name, tolerance) in COMPARED.items():
        pair = [values.get(f"gpu/{gpu.name}/{name}") for values in (before, after)]
        if None in pair:
            # This card does not have the field: nvidia-smi prints no number for it either.
            if told[field].replace(".", "", 1).isdigit():
                wrong.append(f"{name}: not read, nvidia-smi says {told[field]}")
            continue
        least, most = min(pair), max(pair)  # type: ignore[type-var]
        if not least - tolerance <= float(told[field]) <= most + tolerance:  # type: ignore[operator]
            wrong.append(f"{name}: {pair}, nvidia-smi says {told[field]}")
    del held
    took = []
    for _ in range(READINGS):
        began = time.perf_counter()
        gpu_fields.read(gpu)
        took.append((time.perf_counter() - began) * 1000)
    sampler = Sampler(device="cuda:0").start()
    began, cpu = time.monotonic(), time.process_time()
    # Nothing else runs in this process, so its CPU time is the sampler's.
    time.sleep(RATED_S)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    if sampler.problem:
        wrong.append(sampler.problem)
    sampler.stop()
    for line in wrong:
        print(line, file=sys.stderr)
    show(
        {
            "nvml_compared": len(COMPARED),
            "nvml_wrong": len(wrong),
            "sample_ms": round(median(took), 3),
            "sample_core_share": round(share, 5),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
