"""Builds the compiled operations: `python setup.py install`, or `pip install .`

Environment: CXX, the C++ compiler; MAX_JOBS, compilers at a time; CUDA_HOME, the CUDA toolkit, for a Paddle with CUDA; and
QWENVL_CUDA_ARCHS, what its kernels are built for (`75;80;90a`): by default the GPUs of this machine.
"""

import atexit
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

try:
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
except ImportError:
    sys.exit("setuptools is missing in this Python, which brings none from 3.12 on: python -m pip install setuptools")

HERE = Path(__file__).parent
KERNELS = [
    "linear",
    "linear_int4",
    "norm",
    "rotary",
    "attention",
    "attention_gradient",
    "decode",
    "sample",
    "table",
]  # compiled once for each instruction set
ONCE = ["select", "tiles", "onednn_bfloat16", "onednn_float32"]
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
    AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-Wno-maybe-uninitialized"]
    INSTRUCTION_SETS["avx512"] = AVX512
    INSTRUCTION_SETS["avx512_vnni"] = [*AVX512, "-mavx512vnni"]
    INSTRUCTION_SETS["avx512_bf16"] = [*AVX512, "-mavx512vnni", "-mavx512vbmi", "-mavx512bf16"]  # g++ 10 and newer
    INSTRUCTION_SETS["amx"] = [*INSTRUCTION_SETS["avx512_bf16"], "-mamx-tile", "-mamx-bf16"]  # g++ 11 and newer


class Build(build_ext):
    """Compiles every source with flags of its own, which setuptools cannot do, and links them."""

    def build_extension(self, extension):
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            sys.exit(f"No C++ compiler: {compiler!r} was not found. Install g++ 8.2 or newer, or set CXX.")
        paddle = find_paddle()
        out = Path(self.build_temp)
        out.mkdir(parents=True, exist_ok=True)
        cuda = find_cuda(paddle)
        commands = [
            [*command, "-c", str(source), "-o", str(out / name)]
            for name, source, command in [*objects(compiler, paddle, cuda), *cuda_objects(compiler, paddle, cuda)]
        ]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            list(pool.map(run, commands))
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = [*libraries(paddle), *cuda_libraries(cuda)]
        run([compiler, "-shared", "-o", str(target), *(command[-1] for command in commands), *linked])
        for line in missing(compiler, paddle, cuda):
            atexit.register(print, line, file=sys.stderr)  # the last thing said, whatever is installed after this

    def get_ext_filename(self, name):
        return f"{name.replace('.', '/')}.so"


# What is asked of Paddle, in a process of its own: pip builds where no package of the environment can be imported.
QUESTIONS = """
import json, os, paddle
cuda = paddle.version.cuda() if paddle.is_compiled_with_cuda() else None
cards = range(paddle.device.cuda.device_count() if cuda else 0)
capabilities = [list(paddle.device.cuda.get_device_capability(card)) for card in cards]
found = {"home": os.path.dirname(paddle.__file__), "version": paddle.__version__, "cuda": cuda, "capabilities": capabilities}
print("found:" + json.dumps(found))
"""


def find_paddle() -> SimpleNamespace:
    """The Paddle of this environment: its folder `home`, `version`, `cuda` (a version, or None), `capabilities` of its cards."""
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONNOUSERSITE")}
    for environment in (None, outside):
        done = subprocess.run([sys.executable, "-c", QUESTIONS], env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            found = json.loads(done.stdout.rpartition("found:")[2])
            return SimpleNamespace(**{**found, "home": Path(found["home"])})
    why = (done.stderr.strip().splitlines() or ["no word why"])[-1]
    sys.exit(f"Paddle cannot be imported by {sys.executable} ({why}). Install paddlepaddle there first.")


def missing(compiler: str, paddle, cuda: Path | None) -> list[str]:
    """What this build cannot do, and what to do about it."""
    lines = []
    if not onednn(paddle):
        lines.append(
            f"Built without oneDNN, which Paddle {paddle.version} in {paddle.home} does not bring as libdnnl.so.3: prompts "
            "take longer on CPUs with AVX512-BF16. Install paddlepaddle 3.3 for x86-64 and build again."
        )
    if unknown := INSTRUCTION_SETS.keys() - instruction_sets(compiler).keys():
        lines.append(
            f"Built without kernels for {', '.join(sorted(unknown))}, whose flags {compiler} does not know: answers take longer on "
            "CPUs that have these. Install g++ 11 or newer, or set CXX, and build again."
        )
    if not python_headers():
        lines.append(
            "Built without Python's headers: each operation takes some 10 us longer to call. Install them (python3-dev, "
            "python3-devel) and build again."
        )
    if paddle.cuda and cuda is None:
        lines.append(
            f"Built for the CPU alone: Paddle has CUDA {paddle.cuda}, but no CUDA toolkit was found (CUDA_HOME, nvcc on the PATH, "
            "/usr/local/cuda). Install the toolkit of that version, or set CUDA_HOME, and build again."
        )
    return lines


def objects(compiler: str, paddle, cuda: Path | None):
    """(object file, source, compiler with flags) of everything but the CUDA kernels."""
    cpu, bind = HERE / "csrc" / "cpu", HERE / "csrc" / "bind"
    for isa, flags in instruction_sets(compiler).items():
        for name in KERNELS:
            yield f"{name}.{isa}.o", cpu / f"{name}.cc", [compiler, *FLAGS, *flags, f"-DQWENVL_ISA={isa}"]
    for name in ONCE:
        yield f"{name}.o", cpu / f"{name}.cc", [compiler, *FLAGS, *(["-DQWENVL_ONEDNN"] if onednn(paddle) else [])]
    include = paddle.home / "include"
    flags = [f"-I{include}", f"-I{include / 'third_party'}", "-DPADDLE_WITH_CUSTOM_KERNEL", "-w"]
    if headers := python_headers():
        flags += ["-DQWENVL_PYTHON", f"-I{headers}"]
    if cuda:
        headers = [include / "paddle/phi/api/include/compat", cuda / "include", cuda / "include/cccl"]
        flags += ["-DPADDLE_WITH_CUDA", *(f"-I{path}" for path in headers)]
    for source in sorted(bind.glob("*.cc")):
        yield f"bind_{source.stem}.o", source, [compiler, *FLAGS, "-O2", "-D_GLIBCXX_USE_CXX11_ABI=1", *flags]


def python_headers() -> Path | None:
    """The folder of Python.h, which a Python may come without."""
    folder = Path(sysconfig.get_path("include"))
    return folder if (folder / "Python.h").exists() else None


def instruction_sets(compiler: str) -> dict[str, list[str]]:
    """Those whose flags this compiler knows."""

    def knows(flags: list[str]) -> bool:
        check = [compiler, *flags, "-fsyntax-only", "-x", "c++", os.devnull]
        return subprocess.run(check, capture_output=True).returncode == 0

    return {isa: flags for isa, flags in INSTRUCTION_SETS.items() if knows(flags)}


def find_cuda(paddle) -> Path | None:
    """The CUDA toolkit, if Paddle has CUDA: CUDA_HOME, or where nvcc is, or the usual place."""
    if not paddle.cuda:
        return None
    home, nvcc = os.environ.get("CUDA_HOME"), shutil.which("nvcc")
    folders = [Path(home)] if home else [*([Path(nvcc).resolve().parents[1]] if nvcc else []), Path("/usr/local/cuda")]
    for folder in folders:
        if (folder / "bin" / "nvcc").exists() and (folder / "include" / "cuda_runtime.h").exists():
            return folder
    return None


def cuda_objects(compiler: str, paddle, cuda: Path | None):
    """(object file, source, nvcc with flags) of the CUDA kernels."""
    if cuda is None:
        return
    nvcc = str(cuda / "bin" / "nvcc")
    archs = cuda_archs(nvcc, paddle.capabilities)
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    flags.append(f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}")  # for GPUs to come
    for source in sorted((HERE / "csrc" / "cuda").glob("*.cu")):
        yield (
            f"cuda_{source.stem}.o",
            source,
            [nvcc, "-O3", "-std=c++17", "-Xcompiler=-fPIC", "-ccbin", compiler, *flags],
        )


def cuda_archs(nvcc: str, gpus: list[list[int]]) -> list[str]:
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


def onednn(paddle) -> list[Path]:
    """Paddle's own oneDNN, of the version whose interface csrc/cpu/onednn.h declares."""
    return [path for path in [paddle.home / "libs" / "libdnnl.so.3"] if path.exists()]


def libraries(paddle) -> list[str]:
    """Paddle's libraries, its OpenMP among them: two OpenMP runtimes in a process take the cores from each other."""
    base, libs = paddle.home / "base", paddle.home / "libs"
    openmp = libs / "libiomp5.so"
    flags = [str(base / "libpaddle.so"), f"-Wl,-rpath,{base}", f"-Wl,-rpath,{libs}", "-Wl,--no-as-needed"]
    return [*flags, *map(str, onednn(paddle)), str(openmp) if openmp.exists() else "-fopenmp"]


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nThe command above failed: {' '.join(command)}")


if __name__ == "__main__":
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
