"""Two machines that the CUDA kernels run on, their C functions, and arrays in their memory.

`Gpu` is a real one, driven through PyTorch. `Emulator` runs the same sources, compiled by a C++ compiler, on the CPU.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import math
import mmap
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "external_ops" / "csrc"
DTYPES = {"float32": 0, "bfloat16": 1, "float16": 2}  # QwenvlDtype
NUMPY = {"bfloat16": np.uint16, "bool": np.uint8}  # where NumPy's dtype has another name
INVALID_VALUE = 1


class KvCache(ctypes.Structure):
    _fields_ = [
        ("k", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("blocks", "kv_heads", "block_size", "head_dim")),
    ]


class Rows(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("block_tables", "lengths")),
        *((name, ctypes.c_int64) for name in ("count", "blocks")),
    ]


class Int4Weight(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("values", "scales", "zeros", "order")),
        ("scale_dtype", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("n", "k", "group")),
    ]


class ByteWeight(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("values", "scales")),
        ("scale_dtype", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("n", "k")),
    ]


class TokenMarks(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("offsets", "tokens", "counts", "bias")),
        ("size", ctypes.c_int64),
    ]


def to_bits(values, dtype: str) -> np.ndarray:
    """`values` as they lie in memory; bfloat16, which NumPy lacks, as uint16, rounded to nearest even."""
    values = np.asarray(values)
    if dtype != "bfloat16":
        return values.astype(NUMPY.get(dtype, dtype))
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bits(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Floating point as float64, integers as they are."""
    if dtype == "bfloat16":
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float64) if bits.dtype.kind == "f" else bits


def functions(library: ctypes.CDLL) -> dict:
    """The functions that kernels.h declares, with their argument types."""
    header = (SOURCES / "cuda" / "kernels.h").read_text()
    found = {}
    for result, name, parameters in re.findall(r"^(int|int64_t) qwenvl_cuda_(\w+)\((.*?)\);", header, re.M | re.S):
        function = library[f"qwenvl_cuda_{name}"]
        function.restype = ctypes.c_int64 if result == "int64_t" else ctypes.c_int
        function.argtypes = [_ctype(parameter) for parameter in parameters.split(",")]
        found[name] = function
    return found


def _ctype(parameter: str):
    if "*" in parameter:
        return ctypes.c_void_p
    types = {"int64_t": ctypes.c_int64, "float": ctypes.c_float, "QwenvlDtype": ctypes.c_int}
    return next(ctype for name, ctype in types.items() if name in parameter)


@dataclass
class Array:
    """An array in a machine's memory.

    Attributes:
        memory: what keeps it alive.
        pointer: its address.
        shape: as NumPy has it.
        dtype: float32, float16, bfloat16, or an integer type.
    """

    machine: Machine
    memory: object
    pointer: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Its numbers: floating point as float64."""
        kind = np.dtype(NUMPY.get(self.dtype, self.dtype))
        raw = self.machine.download(self.memory, math.prod(self.shape) * kind.itemsize)
        return from_bits(np.frombuffer(raw, kind).reshape(self.shape), self.dtype)


class Machine:
    """Runs kernels on arrays that `put` and `empty` make. Subclasses say where memory is."""

    def __init__(self, library: Path):
        self.library = ctypes.CDLL(str(library))
        self.functions = functions(self.library)

    def put(self, values, dtype: str = "float32") -> Array:
        bits = to_bits(values, dtype)
        return Array(self, *self.upload(bits.tobytes()), bits.shape, dtype)

    def empty(self, shape, dtype: str = "float32") -> Array:
        """An array of NaN, or of -1: nothing that a kernel would write."""
        bits = np.zeros(shape, NUMPY.get(dtype, dtype))
        return Array(self, *self.upload(b"\xff" * bits.nbytes), bits.shape, dtype)

    def status(self, name: str, *arguments) -> int:
        """What a function returns. Arrays go as pointers, structures by reference, dtypes by name; the stream is added."""
        function = self.functions[name]
        arguments = [*arguments, self.stream()][: len(function.argtypes)]
        return function(*map(_plain, arguments))

    def run(self, name: str, *arguments) -> None:
        status = self.status(name, *arguments)
        assert status == 0, f"{name} returned the CUDA error {status}"
        self.wait()

    def attention_scratch(self, cache: KvCache, rows: Rows, tokens: int, heads: int) -> Array:
        return self.empty([self.status("attention_scratch", cache, rows, tokens, heads) // 4])


def _plain(x):
    if isinstance(x, ctypes.Structure):
        return ctypes.addressof(x)
    return DTYPES[x] if isinstance(x, str) else getattr(x, "pointer", x)


def kv_cache(k: Array, v: Array) -> KvCache:
    """The structure for caches [blocks, Hkv, block size, D]."""
    return KvCache(k.pointer, v.pointer, DTYPES[k.dtype], *k.shape)


def rows_of(block_tables: Array, lengths: Array) -> Rows:
    """The structure for tables [B, blocks] and lengths [B]."""
    return Rows(block_tables.pointer, lengths.pointer, *block_tables.shape)


def int4_weight(values: Array, scale: Array, zeros: Array | None = None) -> Int4Weight:
    """The structure for values [n, k / 2], scales and zeros [n, groups]."""
    (n, half), groups = values.shape, scale.shape[1]
    pointers = values.pointer, scale.pointer, zeros and zeros.pointer, None
    return Int4Weight(*pointers, DTYPES[scale.dtype], n, 2 * half, 2 * half // groups)


def byte_weight(values: Array, scale: Array) -> ByteWeight:
    """The structure for values [n, k] and a scale [n]."""
    return ByteWeight(values.pointer, scale.pointer, DTYPES[scale.dtype], *values.shape)


class Gpu(Machine):
    """The current CUDA device."""

    def __init__(self):
        import torch

        self.torch = torch
        super().__init__(build_for_gpu(torch.cuda.get_device_capability()))

    def upload(self, data: bytes):
        memory = self.torch.frombuffer(bytearray(data or b"\0"), dtype=self.torch.uint8).cuda()
        return memory, memory.data_ptr()

    def download(self, memory, size: int) -> bytes:
        return memory[:size].cpu().numpy().tobytes()

    def stream(self) -> int:
        return self.torch.cuda.current_stream().cuda_stream

    def wait(self) -> None:
        self.torch.cuda.synchronize()


class Emulator(Machine):
    """The CPU. An access past an array's end is a segmentation fault, a write before it an error when it is read."""

    ORDERS = ("first come", "last come", "random")
    MARK = 0xA5

    def __init__(self):
        super().__init__(build_for_cpu())

    def upload(self, data: bytes):
        room = (len(data) + 15) // 16 * 16  # the start is a multiple of 16
        pages = room // mmap.PAGESIZE + 1
        memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        memory.write(bytes([self.MARK]) * (pages * mmap.PAGESIZE))
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        last_page = start + pages * mmap.PAGESIZE
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(last_page), mmap.PAGESIZE, 0) == 0
        ctypes.memmove(last_page - room, data, len(data))
        return (memory, last_page - room, start, len(data)), last_page - room

    def download(self, memory, size: int) -> bytes:
        _, pointer, start, length = memory
        before = ctypes.string_at(start, pointer - start)
        after = ctypes.string_at(pointer + length, -length % 16)
        assert set(before + after) <= {self.MARK}, "a kernel wrote outside of an array"
        return ctypes.string_at(pointer, size)

    def stream(self) -> None:
        return None

    def wait(self) -> None:
        pass

    def choose(self, order: str, processors: int = 4, capability: tuple[int, int] = (9, 0)) -> None:
        """Which of the threads that could run runs next, how many multiprocessors there are, and what the GPU is capable of."""
        self.library.emulate(self.ORDERS.index(order), processors, 10 * capability[0] + capability[1])


def build_for_gpu(capability: tuple[int, int]) -> Path:
    """The kernels compiled by nvcc for a compute capability."""
    architecture = "{}{}".format(*capability)
    flags = ["-O3", "-std=c++17", f"-gencode=arch=compute_{architecture},code=sm_{architecture}", "-Xcompiler=-fPIC"]
    return build("nvcc", [(source, flags) for source in sorted((SOURCES / "cuda").glob("*.cu"))])


def build_for_cpu() -> Path:
    """The kernels and the emulator compiled by g++."""
    flags = ["-O1", "-std=c++17", "-fPIC", "-Wno-psabi", "-DQWENVL_ISA=emulated", "-x", "c++"]
    flags += [f"-I{HERE / 'emulator'}", f"-I{SOURCES / 'cpu'}"]
    sources = [*sorted((SOURCES / "cuda").glob("*.cu")), HERE / "emulator" / "emulator.cc"]
    return build(os.environ.get("CXX", "g++"), [(source, flags) for source in sources])


def build(compiler: str, objects: list[tuple[Path, list[str]]], libraries: Sequence[str] = ()) -> Path:
    """Compiles once for all processes that want the same; the library lies in the system's folder for temporary files.

    Args:
        objects: sources, each with its flags; headers that lie beside them count, too.
        libraries: arguments for the linker.
    """
    sources = {source for source, _ in objects}
    headers = [path for folder in {source.parent for source in sources} for path in folder.glob("*.h")]
    text = "".join(path.read_text() for path in sorted([*sources, *headers, SOURCES / "types.h"]))
    wanted = compiler, [(source.name, flags) for source, flags in objects], [*libraries], text
    name = hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"paddlemix_qwenvl_kernels_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{name}.so"
    with open(folder / f"{name}.lock", "w") as lock, tempfile.TemporaryDirectory(dir=folder) as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if library.exists():
            return library
        commands = [
            [compiler, *flags, "-c", str(source), "-o", f"{work}/{number}.o"]
            for number, (source, flags) in enumerate(objects)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        _run([compiler, "-shared", "-o", f"{work}/all.so", *(command[-1] for command in commands), *libraries])
        os.rename(f"{work}/all.so", library)
    return library


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
