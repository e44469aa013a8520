"""The machines that the kernels are tried on."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))  # the operations' definitions

from machine import Emulator, Gpu


def why_no_gpu() -> str:
    """Why the kernels cannot be run on a GPU here; empty if they can."""
    try:
        import torch
    except ImportError:
        return "no PyTorch, whose CUDA runtime drives the kernels"
    return "" if torch.cuda.is_available() else "no CUDA device"


@pytest.fixture(scope="session")
def emulator():
    return Emulator()


@pytest.fixture(scope="session")
def gpu():
    if reason := why_no_gpu():
        pytest.skip(reason)
    return Gpu()


@pytest.fixture(params=[*Emulator.ORDERS, "gpu"])
def machine(request):
    """The emulator with each of its orders of threads, and the GPU where there is one."""
    if request.param == "gpu":
        return request.getfixturevalue("gpu")
    emulator = request.getfixturevalue("emulator")
    emulator.choose(request.param)
    return emulator
