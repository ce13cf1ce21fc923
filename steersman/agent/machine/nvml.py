"""The GPUs that NVML lists, and which of them a training sees. Imports neither Django nor torch, and starts no threads.

NVML orders GPUs by PCI bus, CUDA by speed unless CUDA_DEVICE_ORDER is set: only UUIDs are the same for both. Series are
named by NVML's index, the one that nvidia-smi shows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from steersman.agent.machine.pynvml_notice import silence_pynvml_notice
from steersman.agent.machine.units import MIB
from steersman.messages.reports import GpuDescription

silence_pynvml_notice()
import pynvml  # noqa: E402  after its notice is silenced


class NoGpus(RuntimeError):
    """NVML cannot be used here. The text gives the reason."""


class GpuLost(RuntimeError):
    """A GPU no longer answers. The text gives the reason."""


@dataclass(slots=True)
class Gpu:
    """One GPU, or one MIG instance of a GPU, whose memory is read by `handle` and whose other values by `board`."""

    name: str
    uuid: str
    handle: Any
    board: Any
    unsupported: set[str] = field(default_factory=set)
    # The first value of the board's energy counter, which starts when the driver is loaded.
    first_energy_j: float | None = None

    @property
    def board_name(self) -> str:
        """Return the number of the board, which is the name of a GPU that is not a MIG instance."""
        return self.name.partition(".")[0]


# The processes that use memory of a GPU: MiB by pid, None if the driver does not report it.
Processes = dict[int, int | None]


def open_nvml() -> None:
    """Load the driver's library. Raises `NoGpus` if there is none or it does not work."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        raise NoGpus("the NVIDIA driver's library libnvidia-ml.so.1 is not on this host") from None
    except pynvml.NVMLError as error:
        raise NoGpus(f"the NVIDIA driver reports an error: {error}") from None


def reopen_nvml() -> None:
    """Reload the driver's library, which invalidates every `Gpu`. A GPU that came back answers only after that.

    Raises `NoGpus` as `open_nvml` does.
    """
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()
    open_nvml()


def list_gpus() -> list[Gpu]:
    """Return every GPU that NVML can open, in its own order, MIG instances after their board.

    Raises `NoGpus` if not even their number can be read.
    """
    try:
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        raise NoGpus(f"the NVIDIA driver does not list its GPUs: {error}") from None
    gpus: list[Gpu] = []
    for index in range(count):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpus.append(Gpu(str(index), pynvml.nvmlDeviceGetUUID(handle), handle, handle))
        except pynvml.NVMLError:
            # A GPU that fell off the bus must not hide the others.
            continue
        gpus.extend(_mig_instances(index, handle))
    return gpus


def choose(gpus: Sequence[Gpu], *, visible: str | None, uuids: Sequence[str] = (), device: str = "auto") -> list[Gpu]:
    """Return the GPUs of a training: those of `uuids` if they are known, else those that it can see.

    `visible` is CUDA_VISIBLE_DEVICES (None if it is not set), `device` the requested device, such as cuda:1.
    """
    if device == "cpu":
        return []
    if uuids:
        return [gpu for uuid in uuids if (gpu := _by_uuid(gpus, uuid)) is not None]
    boards = [gpu for gpu in gpus if gpu.handle is gpu.board]
    seen = boards if visible is None else _visible(gpus, boards, visible)
    kind, _, index = device.partition(":")
    if kind == "cuda":
        position = int(index) if index.isdecimal() else 0
        return seen[position : position + 1]
    return seen


def separate(gpus: Sequence[Gpu], *, visible: str | None) -> list[Gpu]:
    """Return the devices that trainings here can be given: every visible GPU, or each MIG instance of a divided one."""
    found: list[Gpu] = []
    for gpu in choose(gpus, visible=visible):
        split = [each for each in gpus if each.board is gpu.board and each.handle is not each.board]
        found += split if split and gpu.handle is gpu.board else [gpu]
    return found


def describe(gpu: Gpu) -> GpuDescription:
    """Return the description of a GPU, without the fields that the driver does not report."""
    name, memory, driver = "GPU", None, ""
    with contextlib.suppress(pynvml.NVMLError):
        name = str(pynvml.nvmlDeviceGetName(gpu.board))
    with contextlib.suppress(pynvml.NVMLError):
        memory = round(pynvml.nvmlDeviceGetMemoryInfo(gpu.handle).total / MIB)
    with contextlib.suppress(pynvml.NVMLError):
        driver = str(pynvml.nvmlSystemGetDriverVersion())
    return GpuDescription(name, gpu.uuid, memory, driver)


def processes(gpu: Gpu) -> Processes:
    """Return the processes that hold memory of a GPU, none if the driver does not report them.

    Pids are those of the driver's namespace: in a container they may differ from ours.
    """
    found: Processes = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        # The GPU may hide them, and the driver may not support them, or only through another version of the call.
        with contextlib.suppress(pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):
            for each in ask(gpu.handle):
                used = each.usedGpuMemory
                found[int(each.pid)] = None if used is None else round(used / MIB)
    return found


def _visible(gpus: Sequence[Gpu], boards: Sequence[Gpu], visible: str) -> list[Gpu]:
    """Return the GPUs that CUDA shows. Like CUDA, it hides everything from the first invalid entry on."""
    seen: list[Gpu] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal():
            gpu = next((each for each in boards if each.name == str(int(entry))), None)
        elif entry.startswith(("GPU-", "MIG-")):
            gpu = _by_uuid(gpus, entry)
        else:
            gpu = None
        if gpu is None:
            break
        if gpu not in seen:
            seen.append(gpu)
    return seen


def _by_uuid(gpus: Sequence[Gpu], uuid: str) -> Gpu | None:
    """Return the only GPU whose UUID begins with `uuid`, which torch reports without the prefix "GPU-"."""
    if not uuid:
        return None
    found = [gpu for gpu in gpus if gpu.uuid.startswith(uuid) or gpu.uuid.partition("-")[2].startswith(uuid)]
    return found[0] if len(found) == 1 else None


def _mig_instances(index: int, board: Any) -> list[Gpu]:
    try:
        if not pynvml.nvmlDeviceGetMigMode(board)[0]:
            return []
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(board)
    except pynvml.NVMLError:
        # Older drivers and most GPUs do not support MIG.
        return []
    instances = []
    for position in range(most):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(board, position)
            instances.append(Gpu(f"{index}.{position}", pynvml.nvmlDeviceGetUUID(handle), handle, board))
        except pynvml.NVMLError:
            # Slots without an instance.
            continue
    return instances
