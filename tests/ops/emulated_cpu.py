"""Kernels for CPUs that this one is not: `emulator/` has their instructions, and their oneDNN, in plain C++."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import paddle
from cpu_paths import PATHS, paths_of_this_cpu
from gpu.machine import build

from paddlemix_qwenvl import environment

ROOT = Path(__file__).parents[2]
SOURCES, EMULATOR = ROOT / "external_ops" / "csrc" / "cpu", Path(__file__).with_name("emulator")
INSTRUCTIONS = {  # avx512 is avx512_vnni but for one instruction
    "avx512_vnni": ["-DEMULATE_VNNI"],
    "avx512_bf16": ["-DEMULATE_VNNI", "-DEMULATE_BF16"],
    "amx": ["-DEMULATE_VNNI", "-DEMULATE_BF16", "-DEMULATE_AMX"],
}
_, _RUNS_ON = PATHS["avx2"]
_NATIVE = ["-Og", *(f"-m{flag}" for flag in _RUNS_ON)]
"""-O1 compiles four times as long, and after -O0 the tests take longer."""


def paths() -> list[str]:
    """Those of PATHS that this CPU lacks and can emulate."""
    _, flags = environment.cpu()
    lacking = [path for path in INSTRUCTIONS if path not in paths_of_this_cpu()]
    return lacking if flags.issuperset(_RUNS_ON) else []


def library() -> Path:
    """A library with the C functions of `external_ops/csrc/cpu/kernels.h`, and of kernels alone those of INSTRUCTIONS.

    Loaded before the operations (LD_PRELOAD) its functions take the place of theirs.
    """
    setup = setup_of_operations()
    flags = [*(flag for flag in setup.FLAGS if flag != "-O3"), *_NATIVE, "-include", str(EMULATOR / "avx512.h")]
    openmp = Path(paddle.__file__).parent / "libs"
    libraries = [str(openmp / "libiomp5.so"), f"-Wl,-rpath,{openmp}"]
    objects = [(source, [*flags, *own]) for source, own in _objects(setup)]
    return build(os.environ.get("CXX", "g++"), objects, libraries)


def setup_of_operations():
    """The module `external_ops/setup.py`, each time anew."""
    spec = importlib.util.spec_from_file_location("external_ops_setup", ROOT / "external_ops" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _objects(setup):
    """Sources, each with flags of its own."""
    for name, flags in INSTRUCTIONS.items():
        for kernel in setup.KERNELS:
            yield SOURCES / f"{kernel}.cc", [*flags, f"-DQWENVL_ISA={name}"]
    for name in setup.ONCE:
        if name != "tiles":
            yield SOURCES / f"{name}.cc", ["-DQWENVL_ONEDNN"]
    yield EMULATOR / "tiles.cc", [f"-I{SOURCES}"]
    yield EMULATOR / "dnnl.cc", [f"-I{SOURCES}", "-fvisibility=hidden"]  # or it would be Paddle's, too
