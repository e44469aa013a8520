"""What this machine and its installed packages offer, what is wrong with them and what to do about it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from paddlemix_qwenvl import environment
from paddlemix_qwenvl.commands.finding import Finding
from paddlemix_qwenvl.device import BFLOAT16_CAPABILITY
from paddlemix_qwenvl.errors import QwenVLError
from paddlemix_qwenvl.models.family import families
from paddlemix_qwenvl.threads import thread_count

PACKAGE = "paddlemix_qwenvl"
PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
MODELS = "paddlemix_qwenvl.models"
IMPORTS = ("paddle", *(f"{MODELS}.{family.name}.{family.classes['model'][0]}" for family in families()))
# Distribution of a host -> the module that its Auto classes are in. None is needed; PaddleNLP is told of where it is missing, too.
HOSTS = {
    "paddlenlp": "paddlenlp.transformers",
    "paddlemix": "paddlemix.auto",
    "paddleformers": "paddleformers.transformers",
}
# Where downloaded models are kept -> the variable that moves it.
CACHES = {
    "paddlenlp": "PPNLP_HOME",
    "huggingface": "HF_HUB_CACHE",
    "modelscope": "MODELSCOPE_CACHE",
    "aistudio": "AISTUDIO_HUB_CACHE",
}
# With another version of these inference fails; another version of the rest may do.
DECISIVE = ("numpy", *PADDLES)
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

OPERATIONS = "paddlemix_qwenvl_ops"
SET_UP = "sh shell/build_paddle_env.sh && sh shell/build_env.sh"


def diagnose() -> list[Finding]:
    """Look at everything. Takes the seconds that Paddle and the hosts take to import."""
    findings = [python_version(), *package_versions()]
    findings += (imports := [import_of(name) for name in IMPORTS])
    findings += hosts()
    if not imports[0].fatal:
        findings += devices()
    findings += [cpu(), threads()]
    if not any(finding.fatal for finding in imports):
        findings += [*compiled_operations(), model_cache()]
    return findings


def python_version() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", found)
    too_old = sys.version_info < (3, 10)
    return Finding("Python", f"{found}, wanted 3.10 to 3.13", "make an environment with Python 3.11", fatal=too_old)


def package_versions() -> Iterator[Finding]:
    """Versions found against those that the package's own metadata asks for."""
    requirements = _requirements()
    if requirements is None:
        yield Finding(PACKAGE, "on the path but not installed: versions are not checked", "pip install -e .")
        return
    yield Finding(PACKAGE, metadata.version(PACKAGE))
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    wanted = {r.name: r for r in needed if r.name not in HOSTS}
    extra = {r.name: r for r in requirements if r.name in PADDLES}
    paddles = [name for name in PADDLES if _version(name)]
    if len(paddles) != 1:
        found = "not installed" if not paddles else f"{' and '.join(paddles)} are both installed"
        remedy = (
            "sh shell/build_paddle_env.sh" if not paddles else f"pip uninstall -y {' '.join(PADDLES)}, then {SET_UP}"
        )
        yield Finding("Paddle", found, remedy, fatal=True)
    for requirement in [*(extra[name] for name in paddles if name in extra), *wanted.values()]:
        yield package_version(requirement)


def package_version(requirement: Requirement) -> Finding:
    name, specifier = requirement.name, requirement.specifier
    found = _version(name)
    if found is None:
        return Finding(name, f"missing, wanted {specifier or 'any'}", f'pip install "{requirement}"', fatal=True)
    if specifier.contains(Version(found), prereleases=True):
        return Finding(name, found)
    return Finding(name, f"{found}, wanted {specifier}", f'pip install "{name}{specifier}"', fatal=name in DECISIVE)


def hosts() -> Iterator[Finding]:
    """The hosts that are installed, with the versions that this package knows; nothing about them is fatal."""
    known = {requirement.name: requirement for requirement in _requirements() or () if requirement.name in HOSTS}
    for name, module in HOSTS.items():
        subject, version, requirement = f"host {name}", _version(name), known.get(name)
        if version is None:
            if name in known:
                found = f"not installed: needed for its own API alone, then {requirement.specifier or 'any'}"
                yield Finding(subject, found)
        elif requirement is not None and not requirement.specifier.contains(Version(version), prereleases=True):
            remedy = f'to use its API: pip install "{name}{requirement.specifier}"'
            yield Finding(subject, f"{version}, wanted {requirement.specifier}", remedy)
        else:
            imported = import_of(module)
            remedy = f"to use its API: {imported.remedy}" if imported.remedy else ""
            yield Finding(subject, f"{version}, its import {imported.found}", remedy)


def _requirements() -> list[Requirement] | None:
    """What the package's metadata asks for, extras included; None where it is not installed."""
    try:
        return [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def import_of(module: str) -> Finding:
    """Import it, its own chatter swallowed."""
    subject = f"import {module.removeprefix(MODELS + '.')}"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # whatever a broken installation raises
        remedy = f"install versions that go together: {SET_UP}"
        return Finding(subject, f"fails: {type(error).__name__}: {_first_line(error)}", remedy, fatal=True)
    return Finding(subject, "works")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def devices() -> Iterator[Finding]:
    """The GPU and its flash attention, or that there is none."""
    import paddle

    answering = _nvidia_smi()
    if not paddle.is_compiled_with_cuda():
        remedy = f"install the GPU build: pip uninstall -y paddlepaddle, then {SET_UP}" if answering else ""
        unused = f", {answering} is not used" if answering else ""
        yield Finding("device", f"CPU (Paddle {paddle.__version__} without CUDA){unused}", remedy)
        yield Finding("flash attention", "needs a GPU; the CPU has its own attention")
        return
    count = paddle.device.cuda.device_count()
    if not count:
        remedy = "check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES; the CPU is used meanwhile"
        yield Finding("device", f"CPU (Paddle for CUDA {paddle.version.cuda()} sees no GPU)", remedy)
        return
    for index in range(count):
        gpu = paddle.device.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        yield Finding(f"device gpu:{index}", f"{gpu.name}, {memory}, compute capability {gpu.major}.{gpu.minor}")
    yield flash_attention(paddle.device.cuda.get_device_capability())


def flash_attention(capability: tuple[int, int]) -> Finding:
    if capability >= BFLOAT16_CAPABILITY:
        return Finding("flash attention", "in Paddle itself, used with float16 and bfloat16")
    found = f"none below compute capability 8.0 (this is {capability[0]}.{capability[1]}), plain attention is used"
    return Finding("flash attention", found, "nothing to install; run with --dtype float16, which is the default here")


def _nvidia_smi() -> str:
    """Names of the GPUs that the driver knows."""
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ", ".join(line.split(" (UUID")[0] for line in run.stdout.splitlines() if line.startswith("GPU "))


def cpu() -> Finding:
    vendor, flags = environment.cpu()
    text = f"{vendor or platform.machine()}: {', '.join(flag for flag in CPU_FLAGS if flag in flags) or 'no AVX2'}"
    if flags and platform.machine() == "x86_64" and "avx2" not in flags:
        return Finding("CPU", text, "Paddle's builds need AVX2; use another machine", fatal=True)
    return Finding("CPU", text)


def threads() -> Finding:
    """Threads that our work takes: the user's setting, or all CPUs."""
    cores, used = environment.cpu_count(), thread_count()
    if used >= cores:
        return Finding("threads", f"{used} on {cores} CPUs")
    return Finding("threads", f"{used} on {cores} CPUs", "unset OMP_NUM_THREADS to use all")


def compiled_operations() -> Iterator[Finding]:
    """Which way each operation goes, as `ops.status()` tells: operation -> what runs it."""
    from paddlemix_qwenvl import ops

    ways: dict[str, list[str]] = {}
    for operation, way in getattr(ops, "status", dict)().items():
        ways.setdefault(str(way), []).append(operation)
    for way, operations in ways.items():
        yield Finding("operations", f"{way}: {', '.join(operations)}")
    yield from build_of_operations(list(ways))


def build_of_operations(ways: list[str]) -> Iterator[Finding]:
    """What is wrong with the compiled operations: not built, not of this version, or without oneDNN where it would be used."""
    from paddlemix_qwenvl.ops.location import how_to_find_operations

    subject, remedy = "compiled operations", how_to_find_operations()
    if importlib.util.find_spec(OPERATIONS) is None:
        compiler = "" if shutil.which("g++") else " (install g++ first)"
        yield Finding(subject, "not built: plain Paddle is used, which is slower", remedy + compiler)
        return
    if refused := next((way for way in ways if f"{OPERATIONS} does not load" in way), None):
        yield Finding(subject, f"built, but not used: {refused}", remedy)
        return
    library = importlib.import_module(OPERATIONS)
    if not library.HAS_ONEDNN and "avx512_bf16" in environment.cpu()[1] and library.isa() != "amx":
        found = "built without oneDNN: prompts take longer"
        remedy = f"install paddlepaddle 3.3, which brings libdnnl.so.3, then {remedy}"
        yield Finding(subject, found, remedy)


def model_cache() -> Finding:
    """Where downloaded models of the source that is asked for, or else of the default one, are kept."""
    from paddlemix_qwenvl.hub.sources import SOURCES, asked

    try:
        key = asked() or next(iter(SOURCES))
    except QwenVLError as error:
        return Finding("model cache", str(error), "set the variable to one of these, or unset it")
    root = SOURCES[key]("any/model", None, None).root
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if os.access(there, os.W_OK):
        return Finding("model cache", f"{root}, {shutil.disk_usage(there).free / 2**30:.0f} GiB free")
    return Finding("model cache", f"{root} is not writable", f"export {CACHES[key]}=/a/folder/of/yours")
