"""Kernels for CPUs that this one is not: `emulator/` has their instructions, and their oneDNN, in plain C++."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paddle
from cpu_paths import PATHS, paths_of_this_cpu

from paddlemix_qwenvl import environment

ROOT = Path(__file__).parents[2]
SOURCES, EMULATOR = ROOT / "external_ops" / "csrc" / "cpu", Path(__file__).with_name("emulator")
INSTRUCTIONS = {  # avx512 has nothing that avx512_vnni has not
    "avx512_vnni": ["-DEMULATE_VNNI"],
    "avx512_bf16": ["-DEMULATE_VNNI", "-DEMULATE_BF16"],
    "amx": ["-DEMULATE_VNNI", "-DEMULATE_BF16", "-DEMULATE_AMX"],
}
COMPILER = os.environ.get("CXX", "g++")
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

    Loaded before the operations (LD_PRELOAD) its functions take the place of theirs. It is built once for each state of the
    sources.
    """
    setup = _setup()
    flags = [flag for flag in setup.FLAGS if flag != "-O3"] + _NATIVE
    files = sorted([*SOURCES.glob("*.*"), *SOURCES.parent.glob("*.h"), *EMULATOR.glob("*.*"), Path(__file__)])
    state = hashlib.sha256(repr(flags).encode() + b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"paddlemix_qwenvl_kernels_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{state}.so"
    with open(folder / f"{state}.lock", "w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            commands = [
                [*_command(setup, flags, *each), "-o", f"{scratch}/{i}.o"] for i, each in enumerate(_objects(setup))
            ]
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(_run, commands))
            openmp = Path(paddle.__file__).parent / "libs"
            libraries = [str(openmp / "libiomp5.so"), f"-Wl,-rpath,{openmp}"]
            _run([COMPILER, "-shared", *(command[-1] for command in commands), *libraries, "-o", f"{scratch}/all.so"])
            os.replace(f"{scratch}/all.so", built)
    return built


def _setup():
    spec = importlib.util.spec_from_file_location("external_ops_setup", ROOT / "external_ops" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _objects(setup):
    """Sources, with what each is compiled by."""
    for name, flags in INSTRUCTIONS.items():
        for kernel in setup.KERNELS:
            yield SOURCES / f"{kernel}.cc", [*flags, f"-DQWENVL_ISA={name}"]
    for name in {*setup.ONCE} - {"tiles"}:
        yield SOURCES / f"{name}.cc", ["-DQWENVL_ONEDNN"]
    yield EMULATOR / "tiles.cc", [f"-I{SOURCES}"]
    yield EMULATOR / "dnnl.cc", [f"-I{SOURCES}", "-fvisibility=hidden"]  # or it would be Paddle's, too


def _command(setup, flags: list[str], source: Path, own: list[str]) -> list[str]:
    return [COMPILER, *flags, "-include", str(EMULATOR / "avx512.h"), *own, "-c", str(source)]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"
