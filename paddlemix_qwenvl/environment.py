"""What must be set before Paddle is imported for its CPU libraries to run at full speed. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def prepare() -> None:
    """Set what the user has not set; called when the package is imported.

    `OMP_NUM_THREADS`: `import paddle` would set it to 1, for every OpenMP library in the process.
    `MKL_DEBUG_CPU_TYPE`: Paddle's MKL takes its SSE path on CPUs that are not Intel's; 5 means AVX2, over three times as fast
    on an AMD EPYC without AVX-512.
    """
    if "paddle" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))
    vendor, flags = cpu()
    if vendor == "AuthenticAMD" and "avx2" in flags and "avx512f" not in flags:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next array instead of giving it back to the system.

    An activation of a long prompt is tens of megabytes; taken from the system anew in every layer, its page faults cost a
    tenth of the prefill. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage collection in this context: while Paddle is imported it takes about 0.1 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def cpu_count() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu() -> tuple[str, frozenset[str]]:
    """Vendor and instruction-set flags of the CPU, as Linux names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "", frozenset()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    return fields.get("vendor_id", ""), frozenset(fields.get("flags", "").split())


def how_to_find_operations() -> str:
    """What to do where the module `paddlemix_qwenvl_ops` is not found, with the folder to name if it was built in this checkout."""
    built = (Path(__file__).parents[1] / "external_ops" / "build").glob("lib*/paddlemix_qwenvl_ops/_ops.so")
    folder = max(built, key=os.path.getmtime, default=None)
    if folder is None:
        return "run `python setup.py install` in external_ops, and put the folder it installs into on PYTHONPATH if need be"
    return f"export PYTHONPATH={folder.parents[1]} (or run `python setup.py install` in external_ops again)"
