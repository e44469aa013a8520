"""How many threads our work takes on the CPU, whatever was imported first. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from paddlemix_qwenvl.environment import cpu, cpu_count

_SETTING = "OMP_NUM_THREADS"
# What the user had set when this package was imported, if that was before Paddle was.
_BEFORE_PADDLE = None if "paddle" in sys.modules else os.environ.get(_SETTING)


def thread_count() -> int:
    """The user's own `OMP_NUM_THREADS`; without one, this process's share of the CPUs, which ranks on one machine divide."""
    own = _own_setting()
    if own is not None:
        return own
    ranks = os.environ.get("PADDLE_LOCAL_SIZE", "")
    return max(1, cpu_count() // max(1, int(ranks) if ranks.isdigit() else 1))


def _own_setting() -> int | None:
    """`OMP_NUM_THREADS` unless it is Paddle's doing: `import paddle` writes a 1 where nothing is set, and its launcher, which
    imports it too, hands that 1 on to the ranks."""
    first, _, _ = os.environ.get(_SETTING, "").partition(",")
    if not first.strip().isdigit() or int(first) < 1:
        return None
    if int(first) > 1 or "paddle" not in sys.modules or _BEFORE_PADDLE is not None:
        return int(first)
    launched = "PADDLE_TRAINER_ID" in os.environ
    return 1 if _started_with_setting(os.getppid() if launched else os.getpid()) else None


def _started_with_setting(process: int) -> bool:
    """Whether that process was started with the setting. Where Linux does not tell, it is taken for the user's."""
    try:
        given = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return True
    return any(entry.startswith(_SETTING.encode() + b"=") for entry in given.split(b"\0"))


def use_threads() -> None:
    """Let Paddle's OpenMP and MKL, and the compiled operations if they are loaded, take `thread_count()` threads.

    Paddle must be imported. OpenMP counts for each thread of the process: here for the calling one; the compiled operations and
    MKL for all. On AMD's CPUs Paddle's MKL would take its SSE path: 5 means AVX2, over twice as fast, if it has not multiplied yet.
    """
    import paddle

    vendor, flags = cpu()
    if vendor == "AuthenticAMD" and "avx2" in flags:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    count, libraries = thread_count(), Path(paddle.__file__).parent / "libs"
    _call(libraries / "libiomp5.so", "omp_set_num_threads", count)
    if "MKL_NUM_THREADS" not in os.environ:
        _call(libraries / "libmklml_intel.so", "MKL_Set_Num_Threads", count)
    if operations := sys.modules.get("paddlemix_qwenvl_ops"):
        operations.set_threads(count)


def _call(library: Path, function: str, count: int) -> None:
    """Call a library of Paddle's that is loaded already; where a build has none, Paddle does without too."""
    try:
        getattr(ctypes.CDLL(str(library)), function)(count)
    except (OSError, AttributeError):
        return
