"""Builds the compiled operations: `python setup.py install`, or `pip install --no-build-isolation .`

Environment: CXX, the C++ compiler; MAX_JOBS, compilers at a time; CUDA_HOME, the CUDA toolkit, for a Paddle with CUDA; and
QWENVL_CUDA_ARCHS, what its kernels are built for (`75;80;90a`): by default the GPUs of this machine.
"""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
KERNELS = [
    "linear",
    "norm",
    "rotary",
    "attention",
    "attention_gradient",
    "decode",
    "sample",
    "table",
]  # compiled once for each instruction set
ONCE = ["select", "onednn_bfloat16", "onednn_float32"]
CUDA_ARCHS = ["70", "75", "80", "86", "89", "90"]  # where no GPU says what it is, as far as the toolkit has them
FLAGS = [
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-Wno-psabi",
]
INSTRUCTION_SETS = {"generic": []}
if platform.machine() == "x86_64":
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma", "-mf16c"]
    INSTRUCTION_SETS["avx512"] = [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mfma",
        "-Wno-maybe-uninitialized",
    ]


class Build(build_ext):
    """Compiles every source with flags of its own, which setuptools cannot do, and links them."""

    def build_extension(self, extension):
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            sys.exit(f"No C++ compiler: {compiler!r} was not found. Install g++ 8.2 or newer, or set CXX.")
        try:
            import paddle
        except ImportError as error:
            sys.exit(
                f"Paddle cannot be imported ({error}). Install paddlepaddle first; pip needs --no-build-isolation."
            )
        paddle_home = Path(paddle.__file__).parent
        out = Path(self.build_temp)
        out.mkdir(parents=True, exist_ok=True)
        cuda = find_cuda(paddle)
        commands = [
            [*command, "-c", str(source), "-o", str(out / name)]
            for name, source, command in [*objects(compiler, paddle_home, cuda), *cuda_objects(compiler, paddle, cuda)]
        ]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            list(pool.map(run, commands))
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = [*libraries(paddle_home), *cuda_libraries(cuda)]
        run([compiler, "-shared", "-o", str(target), *(command[-1] for command in commands), *linked])

    def get_ext_filename(self, name):
        return f"{name.replace('.', '/')}.so"


def objects(compiler: str, paddle_home: Path, cuda: Path | None):
    """(object file, source, compiler with flags) of everything but the CUDA kernels."""
    cpu, bind = HERE / "csrc" / "cpu", HERE / "csrc" / "bind"
    for isa, flags in INSTRUCTION_SETS.items():
        for name in KERNELS:
            yield f"{name}.{isa}.o", cpu / f"{name}.cc", [compiler, *FLAGS, *flags, f"-DQWENVL_ISA={isa}"]
    for name in ONCE:
        yield f"{name}.o", cpu / f"{name}.cc", [compiler, *FLAGS, *onednn_flags(paddle_home)]
    include = paddle_home / "include"
    flags = [f"-I{include}", f"-I{include / 'third_party'}", "-DPADDLE_WITH_CUSTOM_KERNEL", "-w"]
    if cuda:
        headers = [include / "paddle/phi/api/include/compat", cuda / "include", cuda / "include/cccl"]
        flags += ["-DPADDLE_WITH_CUDA", *(f"-I{path}" for path in headers)]
    for source in sorted(bind.glob("*.cc")):
        yield f"bind_{source.stem}.o", source, [compiler, *FLAGS, "-O2", "-D_GLIBCXX_USE_CXX11_ABI=1", *flags]


def find_cuda(paddle) -> Path | None:
    """The CUDA toolkit, if Paddle has CUDA: CUDA_HOME, or where nvcc is, or the usual place."""
    if not paddle.is_compiled_with_cuda():
        return None
    home, nvcc = os.environ.get("CUDA_HOME"), shutil.which("nvcc")
    folders = [Path(home)] if home else [*([Path(nvcc).resolve().parents[1]] if nvcc else []), Path("/usr/local/cuda")]
    for folder in folders:
        if (folder / "bin" / "nvcc").exists() and (folder / "include" / "cuda_runtime.h").exists():
            return folder
    print(
        f"Paddle has CUDA {paddle.version.cuda()}, but there is no CUDA toolkit in {' or '.join(map(str, folders))}: operations "
        "for the CPU alone are built. Install the toolkit of that version, or set CUDA_HOME, and build again to change that."
    )
    return None


def cuda_objects(compiler: str, paddle, cuda: Path | None):
    """(object file, source, nvcc with flags) of the CUDA kernels."""
    if cuda is None:
        return
    nvcc = str(cuda / "bin" / "nvcc")
    archs = cuda_archs(
        nvcc, [paddle.device.cuda.get_device_capability(i) for i in range(paddle.device.cuda.device_count())]
    )
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    flags.append(f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}")  # for GPUs to come
    for source in sorted((HERE / "csrc" / "cuda").glob("*.cu")):
        yield (
            f"cuda_{source.stem}.o",
            source,
            [nvcc, "-O3", "-std=c++17", "-Xcompiler=-fPIC", "-ccbin", compiler, *flags],
        )


def cuda_archs(nvcc: str, gpus: list[tuple[int, int]]) -> list[str]:
    """What to build for, oldest first: QWENVL_CUDA_ARCHS, or these GPUs, or CUDA_ARCHS, the last two as far as nvcc has them."""
    if chosen := os.environ.get("QWENVL_CUDA_ARCHS"):
        return chosen.split(";")
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    known = {name.removeprefix("compute_") for name in listed}
    here = sorted({f"{major}{minor}" for major, minor in gpus} & known, key=int)
    return here or [arch for arch in CUDA_ARCHS if arch in known]


def cuda_libraries(cuda: Path | None) -> list[str]:
    """The CUDA runtime, linked in whole: Paddle's own may be of another version."""
    if cuda is None:
        return []
    return [f"-L{cuda / 'lib64'}", "-Wl,--exclude-libs,ALL", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]


def onednn_flags(paddle_home: Path) -> list[str]:
    """Flags to use Paddle's own oneDNN; in bfloat16 only with its headers, which the package `onednn-devel` holds."""
    if not (paddle_home / "libs" / "libdnnl.so.3").exists():
        return []
    include = next((path for path in (Path(sys.prefix) / "include", Path("/usr/include")) if has_onednn(path)), None)
    if include is None:
        print(
            "oneDNN's headers were not found: no products in bfloat16, which CPUs with AVX512-BF16 would have. `pip install "
            "--no-deps onednn-devel==2025.0.0` and build again to change that."
        )
        return ["-DQWENVL_ONEDNN_FLOAT32"]
    return ["-DQWENVL_ONEDNN_FLOAT32", "-DQWENVL_ONEDNN_BFLOAT16", f"-I{include}"]


def has_onednn(include: Path) -> bool:
    return (include / "oneapi" / "dnnl" / "dnnl.hpp").exists()


def libraries(paddle_home: Path) -> list[str]:
    """Paddle's libraries, its OpenMP among them: two OpenMP runtimes in a process take the cores from each other."""
    base, libs = paddle_home / "base", paddle_home / "libs"
    flags = [str(base / "libpaddle.so"), f"-Wl,-rpath,{base}", f"-Wl,-rpath,{libs}", "-Wl,--no-as-needed"]
    flags += [str(path) for name in ("libdnnl.so.3", "libiomp5.so") if (path := libs / name).exists()]
    return [*flags, *([] if (libs / "libiomp5.so").exists() else ["-fopenmp"])]


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nThe command above failed: {' '.join(command)}")


setup(
    name="paddlemix_qwenvl_ops",
    version="0.1.0",
    description="Compiled operations of paddlemix_qwenvl",
    packages=["paddlemix_qwenvl_ops"],
    py_modules=["fused_ln", "fast_ln"],
    ext_modules=[Extension("paddlemix_qwenvl_ops._ops", sources=[])],
    cmdclass={"build_ext": Build},
    python_requires=">=3.10",
    zip_safe=False,
)
