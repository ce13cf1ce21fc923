"""The fields that are read from a GPU, and their units. Imports neither Django nor torch, and starts no threads.

A field that a GPU or its driver does not have is left out instead of zero. docs/protocol.md has the units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from steersman.agent.machine.nvml import Gpu, GpuLost
from steersman.agent.machine.pynvml_notice import silence_pynvml_notice
from steersman.agent.machine.units import MIB

silence_pynvml_notice()
import pynvml  # noqa: E402  after its notice is silenced

KIB_PER_MIB = 2**10

# Fields that this GPU or driver does not have are not read again.
UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
)
# The GPU, or the whole driver, is gone. Any other error concerns one field, this time.
GONE = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)

Values = dict[str, float]
Fields = Mapping[str, Callable[[Gpu], Values]]


def read(gpu: Gpu) -> Values:
    """Return the fields that are cheap to read, named `gpu/<i>/…`. Raises `GpuLost` if the GPU is gone."""
    values = _read(gpu, EACH_SECOND)
    if not values:
        raise GpuLost("its driver returns no readings")
    return values


def read_slow(gpu: Gpu) -> Values:
    """Return the fields that block while they are measured (PCIe: 20 ms each way) or rarely change.

    Raises `GpuLost`.
    """
    return _read(gpu, NOW_AND_THEN)


def _read(gpu: Gpu, fields: Fields) -> Values:
    values: Values = {}
    for name, ask in fields.items():
        if name in gpu.unsupported:
            continue
        try:
            answers = ask(gpu)
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise GpuLost(str(error)) from None
            if error.value in UNSUPPORTED:
                gpu.unsupported.add(name)
            continue
        values |= {f"gpu/{gpu.name}/{key}": value for key, value in answers.items()}
    return values


def _utilisation(gpu: Gpu) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(gpu.handle)
    return {"utilisation": float(rates.gpu), "memory_utilisation": float(rates.memory)}


def _memory(gpu: Gpu) -> Values:
    memory = pynvml.nvmlDeviceGetMemoryInfo(gpu.handle)
    return {"memory_used_mib": memory.used / MIB, "memory_total_mib": memory.total / MIB}


def _temperature(gpu: Gpu) -> Values:
    return {"temperature_c": float(pynvml.nvmlDeviceGetTemperature(gpu.board, pynvml.NVML_TEMPERATURE_GPU))}


def _power(gpu: Gpu) -> Values:
    return {"power_w": pynvml.nvmlDeviceGetPowerUsage(gpu.board) / 1000}


def _power_limit(gpu: Gpu) -> Values:
    # The enforced limit is the lowest of those of driver, administrator and board.
    return {"power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu.board) / 1000}


def _sm_clock(gpu: Gpu) -> Values:
    return {"sm_clock_mhz": float(pynvml.nvmlDeviceGetClockInfo(gpu.board, pynvml.NVML_CLOCK_SM))}


def _memory_clock(gpu: Gpu) -> Values:
    return {"memory_clock_mhz": float(pynvml.nvmlDeviceGetClockInfo(gpu.board, pynvml.NVML_CLOCK_MEM))}


def _fan(gpu: Gpu) -> Values:
    return {"fan_percent": float(pynvml.nvmlDeviceGetFanSpeed(gpu.board))}


def _throttle_reasons(gpu: Gpu) -> Values:
    try:
        mask = pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.board)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        # Its name until driver 535.
        mask = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.board)
    return {"throttle_reasons": float(mask)}


def _pcie_received(gpu: Gpu) -> Values:
    rate = pynvml.nvmlDeviceGetPcieThroughput(gpu.board, pynvml.NVML_PCIE_UTIL_RX_BYTES)
    return {"pcie_rx_mib_per_second": rate / KIB_PER_MIB}


def _pcie_sent(gpu: Gpu) -> Values:
    rate = pynvml.nvmlDeviceGetPcieThroughput(gpu.board, pynvml.NVML_PCIE_UTIL_TX_BYTES)
    return {"pcie_tx_mib_per_second": rate / KIB_PER_MIB}


def _ecc_corrected(gpu: Gpu) -> Values:
    return {"ecc_corrected": _ecc(gpu, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)}


def _ecc_uncorrected(gpu: Gpu) -> Values:
    return {"ecc_uncorrected": _ecc(gpu, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)}


def _ecc(gpu: Gpu, kind: int) -> float:
    return float(pynvml.nvmlDeviceGetTotalEccErrors(gpu.board, kind, pynvml.NVML_VOLATILE_ECC))


def _energy(gpu: Gpu) -> Values:
    energy_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu.board) / 1000
    if gpu.first_energy_j is None or energy_j < gpu.first_energy_j:
        gpu.first_energy_j = energy_j
    return {"energy_j": energy_j - gpu.first_energy_j}


EACH_SECOND: Fields = {
    "utilisation": _utilisation,
    "memory": _memory,
    "temperature": _temperature,
    "power": _power,
    "power_limit": _power_limit,
    "sm_clock": _sm_clock,
    "memory_clock": _memory_clock,
    "fan": _fan,
    "throttle_reasons": _throttle_reasons,
}
NOW_AND_THEN: Fields = {
    "pcie_received": _pcie_received,
    "pcie_sent": _pcie_sent,
    "ecc_corrected": _ecc_corrected,
    "ecc_uncorrected": _ecc_uncorrected,
    "energy": _energy,
}
