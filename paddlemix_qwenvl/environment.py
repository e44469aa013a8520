"""The CPUs that this process may use, and what they can do. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_count() -> int:
    """CPUs this process may use: those it may run on, or fewer where a container's share of time is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, round(_container_cpus() or allowed)))


def _container_cpus(groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The CPU time a second that this process's control group has, of version 2 or 1; None where it is not limited."""
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text().split()
        else:
            quota, period = ((groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def cpu() -> tuple[str, frozenset[str]]:
    """Vendor and instruction-set flags of the CPU, as Linux names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "", frozenset()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    return fields.get("vendor_id", ""), frozenset(fields.get("flags", "").split())
