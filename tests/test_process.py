"""What a process may change about its own memory."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from paddlemix_qwenvl import process


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_freed_memory_goes_back_to_the_system():
    """Arrays below what glibc maps, freed but for every eighth, which keep the heap from shrinking."""
    arrays = [np.ones(100_000, np.uint8) for _ in range(800)]
    kept, before = arrays[::8], resident()
    del arrays
    process.give_back_freed_memory()
    assert before - resident() > 50e6 and sum(map(len, kept)) == 10_000_000


@pytest.mark.parametrize("change", [process.give_back_freed_memory, process.keep_freed_memory])
def test_another_c_library_goes_without(monkeypatch, change):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    change()
