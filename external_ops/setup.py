"""Builds the compiled operations: `python setup.py install`, or `pip install --no-build-isolation .`"""

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
        commands = [
            [compiler, *flags, "-c", str(source), "-o", str(out / name)] for name, source, flags in objects(paddle_home)
        ]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            list(pool.map(run, commands))
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        run([compiler, "-shared", "-o", str(target), *(command[-1] for command in commands), *libraries(paddle_home)])

    def get_ext_filename(self, name):
        return f"{name.replace('.', '/')}.so"


def objects(paddle_home: Path):
    """(object file, source, flags) of everything to compile."""
    cpu, bind = HERE / "csrc" / "cpu", HERE / "csrc" / "bind"
    for isa, flags in INSTRUCTION_SETS.items():
        for name in KERNELS:
            yield f"{name}.{isa}.o", cpu / f"{name}.cc", [*FLAGS, *flags, f"-DQWENVL_ISA={isa}"]
    for name in ONCE:
        yield f"{name}.o", cpu / f"{name}.cc", [*FLAGS, *onednn_flags(paddle_home)]
    include = paddle_home / "include"
    paddle_flags = [f"-I{include}", f"-I{include / 'third_party'}", "-DPADDLE_WITH_CUSTOM_KERNEL", "-w"]
    for source in sorted(bind.glob("*.cc")):
        yield f"bind_{source.stem}.o", source, [*FLAGS, "-O2", "-D_GLIBCXX_USE_CXX11_ABI=1", *paddle_flags]


def onednn_flags(paddle_home: Path) -> list[str]:
    """Flags to use Paddle's own oneDNN; in bfloat16 only with its headers, which the package `onednn-devel` holds."""
    if not (paddle_home / "libs" / "libdnnl.so.3").exists():
        return []
    include = next((path for path in (Path(sys.prefix) / "include", Path("/usr/include")) if has_onednn(path)), None)
    if include is None:
        print(
            "oneDNN's headers were not found: bfloat16 prompts run in float32. `pip install --no-deps "
            "onednn-devel==2025.0.0` and build again to change that."
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
