"""The device that Paddle computes on, what it can do, and the memory that was taken. Imports nothing heavy."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from paddlemix_qwenvl.errors import ConfigurationError

BFLOAT16_CAPABILITY = (8, 0)  # Ampere: the first GPUs with bfloat16 and with flash attention


def use_device(device: str | None) -> str:
    """Make `device` Paddle's current one; returns its name.

    Args:
        device: "cpu", "gpu" or "gpu:N"; None for Paddle's choice.

    Raises:
        ConfigurationError: it does not exist, or Paddle was not built for it.
    """
    import paddle

    if device is not None:
        try:
            paddle.set_device(device)
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigurationError(
                f"device {device!r} cannot be used ({str(error).strip().splitlines()[-1]}): "
                "give cpu, gpu or gpu:N; `paddlemix-qwenvl doctor` says what is there."
            ) from error
    return paddle.device.get_device()


def usable_dtype(dtype: str | None, device: str) -> str | None:
    """`dtype`, or without one float16 on a GPU that has no bfloat16 (V100 and older), else None for the config's own.

    Raises:
        ConfigurationError: bfloat16 on a GPU that has none.
    """
    import paddle

    if not device.startswith("gpu") or paddle.device.cuda.get_device_capability() >= BFLOAT16_CAPABILITY:
        return dtype
    if dtype == "bfloat16":
        raise ConfigurationError(f"{paddle.device.cuda.get_device_name()} has no bfloat16: give --dtype float16.")
    return dtype or "float16"


def to_device(array):
    """A tensor with the numbers of `array`, of its shape and dtype, on Paddle's current device.

    For what runs without end, as a server does: of each tensor that `paddle.to_tensor` makes, Paddle (3.3.1) keeps a list for ever.
    """
    import numpy as np
    import paddle

    array = np.asarray(array)
    tensor = paddle.empty(array.shape, str(array.dtype))
    tensor.set_value(array)
    return tensor


def free_memory() -> tuple[str, int]:
    """Where Paddle computes, "cpu" or "gpu", and the bytes of memory there that nobody has."""
    import paddle

    if paddle.device.get_device().startswith("gpu"):
        return "gpu", paddle.base.core.gpu_memory_available()
    return "cpu", min([_available(), *_left_of_quota()])


def _available() -> int:
    """Of the machine; half of it all where it does not tell."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_of_quota() -> list[int]:
    """Of a container, where it has a limit (cgroup v2)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return []
    return [max(0, limit - used)]


def peak_memory() -> dict[str, float]:
    """The most memory that the process has had ("peak_memory_gib") and, on a GPU, of the GPU ("peak_gpu_memory_gib")."""
    import paddle

    peak = {"peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if paddle.device.get_device().startswith("gpu"):
        peak["peak_gpu_memory_gib"] = paddle.device.cuda.max_memory_allocated() / 2**30
    return peak
