"""Every Paddle that the package allows has what the GPU path calls, by paddle_signatures.json; and how that file is made."""

import functools
import importlib
import inspect
import re
import zipfile
from pathlib import Path

import paddle
import paddle_signatures
import pytest
from gpu_stand_in import FACTS
from packaging.specifiers import SpecifierSet

from paddlemix_qwenvl.ops import gpu

SETUP = Path(__file__).parents[2] / "setup.py"
QUANT = """
from __future__ import annotations
@overload
def weight_quantize(x: Tensor, algo: str = ...) -> Tensor: ...
def weight_quantize(x: Tensor, algo: _Algo = "weight_only_int8", arch: int | None = None):
    if arch is None:
        arch = 0
    assert arch == 70 or arch == 100 or arch == 90, "..."
"""
GRAPH = """
class CUDAGraph:
    def __init__(self, place: Place = None): ...
    def capture_begin(self): ...
    def capture_end(self): ...
    def replay(self): ...
"""
TENSOR = """
def monkey_patch_tensor():
    def pin_memory(self: Tensor, blocking: bool = True): ...
    def cuda(x): ...
"""
FILES = {
    "paddle/device/cuda/__init__.py": "from .streams import Event",
    "paddle/device/cuda/streams.py": "from paddle.base.core import CUDAEvent as Event",
    "paddle/device/cuda/graphs.py": GRAPH,
    "paddle/base/dygraph/tensor_patch_methods.py": TENSOR,
    "paddle/nn/__init__.py": "",
    "paddle/nn/quant/__init__.py": "from .linear import weight_quantize, weight_only_linear as weight_only_linear",
    "paddle/nn/quant/linear.py": QUANT + "def weight_only_linear(x, weight, bias=None): ...",
    "paddle/nn/functional/flash_attention.py": "from ..quant.linear import weight_only_linear as flash_attn_unpadded",
    "paddle/incubate/nn/functional/__init__.py": "from paddle.nn.quant import weight_quantize as swiglu",
}


def test_the_versions_are_those_that_setup_py_allows():
    (allowed,) = set(re.findall(r"paddlepaddle(?:-gpu)?(>=[^\"]+)", SETUP.read_text(encoding="utf-8")))
    assert list(FACTS) == list(paddle_signatures.VERSIONS) and all(map(SpecifierSet(allowed).contains, FACTS))
    assert next(iter(FACTS)).startswith(re.search(r">=([\d.]+)", allowed)[1])


@pytest.mark.parametrize("version", FACTS)
def test_every_function_is_found_in_every_version(version):
    signatures = FACTS[version]["signatures"]
    for name, modules in gpu.FUNCTIONS.items():
        assert any(f"{module}.{name}" in signatures for module in modules), name
    others = {f"{module}.{name}" for module, name in paddle_signatures.wanted() if name not in gpu.FUNCTIONS}
    assert len(others) >= 10 and others == others & {*signatures, *FACTS[version]["built_in"]}


def test_the_installed_paddle_is_as_the_file_says():
    minor = paddle.__version__.rpartition(".")[0]
    (facts,) = (facts for version, facts in FACTS.items() if version.startswith(f"{minor}."))
    for full, text in facts["signatures"].items():
        declared = inspect.signature(functools.reduce(getattr, full.split(".")[1:], paddle)).parameters
        names = {"ReduceOp": paddle.distributed.ReduceOp}
        wanted = inspect.signature(eval(f"lambda {text}: None", names)).parameters
        assert [(n, p.default) for n, p in declared.items()] == [(n, p.default) for n, p in wanted.items()], full


@pytest.mark.parametrize("module", gpu.FUNCTIONS["swiglu"])
def test_a_function_that_moved_is_found_where_it_is(monkeypatch, module):
    """As in Paddle 3.0 to 3.2, whose `paddle.nn.functional` has no swiglu, and in one whose other module is gone."""
    function = importlib.import_module(module).swiglu
    for other in set(gpu.FUNCTIONS["swiglu"]) - {module}:
        monkeypatch.delattr(importlib.import_module(other), "swiglu")
    assert gpu.find("swiglu") is function


def test_a_function_that_is_gone_is_none(monkeypatch):
    monkeypatch.setitem(gpu.FUNCTIONS, "swiglu", ("paddle.nn.functional.no_such_module", "paddle.nn"))
    assert gpu.find("swiglu") is None


def test_facts_of_a_wheel(tmp_path):
    """Functions are followed through modules that pass them on, under other names too."""
    with zipfile.ZipFile(tmp_path / "paddle.whl", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    assert paddle_signatures.facts(paddle_signatures.Wheel(tmp_path / "paddle.whl")) == {
        "signatures": {
            "paddle.Tensor.cuda": "x",
            "paddle.Tensor.pin_memory": "self, blocking=True",
            "paddle.device.cuda.graphs.CUDAGraph.__init__": "self, place=None",
            "paddle.device.cuda.graphs.CUDAGraph.capture_begin": "self",
            "paddle.device.cuda.graphs.CUDAGraph.capture_end": "self",
            "paddle.device.cuda.graphs.CUDAGraph.replay": "self",
            "paddle.incubate.nn.functional.swiglu": "x, algo='weight_only_int8', arch=None",
            "paddle.nn.functional.flash_attention.flash_attn_unpadded": "x, weight, bias=None",
            "paddle.nn.quant.weight_only_linear": "x, weight, bias=None",
            "paddle.nn.quant.weight_quantize": "x, algo='weight_only_int8', arch=None",
        },
        "architectures": {"swiglu": "70 90 100", "weight_quantize": "70 90 100"},
        "built_in": ["paddle.device.cuda.Event"],
    }
