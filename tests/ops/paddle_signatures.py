"""What Paddle's versions have of what the GPU path calls: writes paddle_signatures.json from the wheels on the package index.

Run by CI, it fails where the committed file is not what the wheels say. A wheel is read and not installed: of the CPU builds, whose
Python files are the GPU builds' own. `gpu_stand_in` holds each call to what is written here.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

VERSIONS = ("3.0.0", "3.1.1", "3.2.2", "3.3.1")
FILE = Path(__file__).with_suffix(".json")
PACKAGE = Path(__file__).parents[2] / "paddlemix_qwenvl"
DEVICE = re.compile(r"\bpaddle\.device\.cuda\.([a-zA-Z_]\w*)\(")
GRAPH = "paddle.device.cuda.graphs"
GRAPH_METHODS = ("__init__", "capture_begin", "capture_end", "replay")
TENSOR_METHODS = ("cuda", "pin_memory")
PATCHED = "paddle.base.dygraph.tensor_patch_methods", "monkey_patch_tensor"
"""Module and function that define methods of tensors within it."""
BUILT_IN = ast.parse("def built_in(): ...").body[0]
"""In place of what is not of Python."""


def wanted() -> set[tuple[str, str]]:
    """Every (module, name) in which the package may look for a function of Paddle's GPU path."""
    from paddlemix_qwenvl.ops.gpu import FUNCTIONS

    texts = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    device = {("paddle.device.cuda", name) for text in texts for name in DEVICE.findall(text)}
    methods = {("paddle.Tensor", name) for name in TENSOR_METHODS}
    methods |= {("paddle.distributed.communication.stream", "all_reduce")} | {
        (GRAPH, f"CUDAGraph.{name}") for name in GRAPH_METHODS
    }
    return device | methods | {(module, name) for name, modules in FUNCTIONS.items() for module in modules}


class Wheel:
    """The Python files of a wheel."""

    def __init__(self, path: Path):
        self._archive = zipfile.ZipFile(path)
        self._names = set(self._archive.namelist())

    def function(self, module: str, name: str) -> ast.FunctionDef | None:
        """The definition of a function, through the modules that pass it on."""
        if module == "paddle.Tensor":
            return self.function(PATCHED[0], f"{PATCHED[1]}.{name}")
        if module in ("paddle.base.core", "paddle.base.libpaddle"):
            return BUILT_IN
        name, *within = name.split(".")
        base = PurePosixPath(*module.split("."))
        path = next((str(p) for p in (base / "__init__.py", base.with_suffix(".py")) if str(p) in self._names), None)
        if path is None:
            return None
        package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
        found = None
        for node in ast.parse(self._archive.read(path)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                found = node  # the last of several is the one that its overloads announce
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        found = self.function(_absolute(node, package), alias.name) or found
        for each in within:
            found = next(node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == each)
        return found


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *filter(None, [node.module])])


def signature(function: ast.FunctionDef) -> str:
    """Parameters and defaults without annotations, as Python writes them."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    return ast.unparse(arguments)


def architectures(function: ast.FunctionDef) -> str:
    """The GPU architectures that a function asserts its `arch` to be one of, such as "70 75 80"."""
    compared = (node for node in ast.walk(function) if isinstance(node, ast.Compare))
    return " ".join(sorted({ast.unparse(node.comparators[0]) for node in compared if _is_arch(node)}, key=int))


def _is_arch(node: ast.Compare) -> bool:
    return ast.unparse(node.left) == "arch" and isinstance(node.ops[0], ast.Eq)


def facts(wheel: Wheel) -> dict:
    """Of one version: signatures by full name, and architectures of those functions that list them."""
    functions = {f"{module}.{name}": wheel.function(module, name) for module, name in sorted(wanted())}
    functions = {name: function for name, function in functions.items() if function is not None}
    built_in = [name for name, function in functions.items() if function is BUILT_IN]
    functions = {name: function for name, function in functions.items() if function is not BUILT_IN}
    arch = {name.rpartition(".")[2]: architectures(function) for name, function in functions.items()}
    return {
        "signatures": {name: signature(function) for name, function in functions.items()},
        "architectures": {name: found for name, found in arch.items() if found},
        "built_in": built_in,
    }


def download(version: str, folder: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux1_x86_64", "--dest", folder]
    subprocess.run([*command, f"paddlepaddle=={version}"], check=True)
    return next(Path(folder).glob("*.whl"))


def main() -> None:
    found = {}
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as folder:  # one wheel at a time: each is 190 MB
            found[version] = facts(Wheel(download(version, folder)))
    text = json.dumps(found, indent=1) + "\n"
    committed = FILE.read_text(encoding="utf-8") if FILE.is_file() else ""
    FILE.write_text(text, encoding="utf-8")
    if text != committed:
        sys.exit(f"{FILE} was not what the wheels say and is written anew: look at the difference, and commit it.")


if __name__ == "__main__":
    main()
