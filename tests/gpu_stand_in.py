"""A GPU on a CPU: inside of `card(capability)` the package loads, runs and traces as it would on Paddle with CUDA.

Tensors say that they are on a GPU. Arithmetic in float16 and bfloat16 rounds as a GPU's does: float32 inside, over 65 504 infinite.
Paddle's own GPU operations are played by functions with the signatures of a Paddle version (ops/paddle_signatures.json) and the
dtypes, limits and layouts of Paddle's kernels (paddle/phi/kernels/gpu: rms_norm, flash_attn, weight_only_linear; impl:
weight_quantize_kernel_gpu_impl.h). int8 weights are arranged by Paddle's own CPU kernel.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from gpu_counts import copying, played, refused, watch
from paddle.jit.dy2static import Call
from paddle.nn import quant

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.engine import capture
from paddlemix_qwenvl.ops import definitions, dispatch, gpu
from paddlemix_qwenvl.ops.version import Version

FACTS = json.loads((Path(__file__).parent / "ops" / "paddle_signatures.json").read_text(encoding="utf-8"))
NEWEST = max(FACTS)
HALVES = (paddle.float16, paddle.bfloat16)
FLOATS = (*HALVES, paddle.float32)
# What Paddle's CPU build has no float16 or bfloat16 kernel for, as far as the models call it.
OPERATORS = ("__add__", "__radd__", "__sub__", "__mul__", "__rmul__", "__truediv__")
METHODS = ("abs", "gather", "index_select", "max", "tile")
FUNCTIONS = ((F, "gelu"), *((paddle, name) for name in ("gather", "gather_nd", "matmul", "scatter", "where")))
TENSORS = (paddle.Tensor, paddle.pir.Value)


class GpuPlace(paddle.base.core.Place):
    """The CPU, which says that it is a GPU."""

    def __init__(self):
        super().__init__()
        self.set_place(paddle.CPUPlace())

    def is_gpu_place(self) -> bool:
        return True

    def is_cpu_place(self) -> bool:
        return False


def _pinned(x, blocking: bool = True):
    host = x.clone()
    host.is_pinned = True
    return host


class Event:
    """A place in the device's queue."""

    def __init__(self):
        self._is_recorded = False

    def record(self) -> None:
        self._is_recorded = True

    def synchronize(self) -> None:
        assert self._is_recorded
        self._wait()

    _wait = copying("wait", lambda self: None)


class Graph:
    """A CUDA graph of work that `capture.Captured` has captured, which is played by doing the work again on the same tensors.

    What a graph could not hold is refused: copies that are waited for, tensors that have moved, results that are no new tensors.
    """

    def __init__(self, place):
        assert place.is_gpu_place()

    def capture_begin(self) -> None:
        self._captured = sys._getframe(1).f_locals["self"]
        self._before = [(x, x.data_ptr(), x.clone()) for x in self._captured.tensors]
        refused.append("(External) CUDA error(900), operation not permitted when stream is capturing.")

    def capture_end(self) -> None:
        """Nothing was done."""
        refused.clear()
        for x, _, value in self._before:
            paddle.assign(value, x)

    def _replay(self) -> None:
        output = self._captured._run()
        assert all(x.data_ptr() == address for x, address, _ in self._before), "a tensor of the graph has moved"
        paddle.assign(output, self._captured.output)

    replay = played("graph", _replay)


@contextmanager
def card(capability: tuple[int, int], version: str = NEWEST, kernels: bool = False) -> Iterator[pytest.MonkeyPatch]:
    """A GPU of a compute capability, under a Paddle of FACTS; what else a test changes by the patch is undone at the end.

    With `kernels` there are our own in CUDA too, played by the definitions. PaddleNLP must have been imported before: it asks a
    build with CUDA for more than there is here.
    """
    with pytest.MonkeyPatch.context() as patch:
        _device(patch, capability, version)
        _arithmetic(patch)
        watch(patch)
        own = Own(capability, version)
        patch.setattr(gpu, "_paddle", SimpleNamespace(**{name: own.function(name) for name in gpu.FUNCTIONS}))
        ours = {name: version_of(name) for name in dispatch._compiled.GPU} if kernels else {}
        patch.setattr(dispatch, "GPU", gpu.versions(ours))
        for name in definitions.__all__:
            patch.setitem(dispatch.FASTEST, name, dispatch.fastest(name))
            patch.setattr(ops, name, dispatch.FASTEST[name])
        gpu._tried.cache_clear()
        yield patch
    gpu._tried.cache_clear()


def version_of(name: str) -> Version:
    """A kernel in CUDA."""
    return Version(played(name, defined(name)), False, lambda: "played by its definition")


def defined(name: str):
    """An operation's definition, in graphs too."""
    definition = getattr(definitions, name)
    return functools.wraps(definition)(
        lambda *args, **kwargs: (definition if paddle.in_dynamic_mode() else Call(definition))(*args, **kwargs)
    )


def _device(patch: pytest.MonkeyPatch, capability: tuple[int, int], version: str) -> None:
    name, place = "Stand-in {}.{}".format(*capability), GpuPlace()
    properties = SimpleNamespace(name=name, major=capability[0], minor=capability[1], total_memory=80 << 30)
    for module in (paddle, paddle.device):
        patch.setattr(module, "is_compiled_with_cuda", lambda: True)
        patch.setattr(module, "get_device", lambda: "gpu:0")
        patch.setattr(module, "set_device", lambda device: place)
    patch.setattr(paddle, "__version__", version)
    patch.setattr(paddle.device.cuda, "device_count", lambda: 1)
    patch.setattr(paddle.device.cuda, "get_device_capability", lambda device=None: capability)
    patch.setattr(paddle.device.cuda, "get_device_name", lambda device=None: name)
    patch.setattr(paddle.device.cuda, "get_device_properties", lambda device=None: properties)
    patch.setattr(paddle.device.cuda, "max_memory_allocated", lambda device=None: 0)
    patch.setattr(paddle.framework, "_current_expected_place", lambda: place)
    # What Paddle's own Python asks of a build with CUDA: `paddle.seed`, and `Layer.to`.
    patch.setattr(paddle.base.core, "get_cuda_device_count", lambda: 0, raising=False)
    patch.setattr(paddle.base.core, "gpu_memory_available", lambda: properties.total_memory, raising=False)
    patch.setattr(paddle.Tensor, "place", property(lambda x: place))
    patch.setattr(paddle, "CUDAPinnedPlace", paddle.CPUPlace)
    patch.setattr(paddle.Tensor, "cuda", copying("upload", lambda x, device_id=None, blocking=True: x.clone()))
    patch.setattr(paddle.Tensor, "_copy_to", copying("upload", paddle.Tensor._copy_to))
    patch.setattr(paddle.Tensor, "pin_memory", copying("download", _pinned))
    patch.setattr(paddle.device.cuda, "Event", Event)
    patch.setattr(paddle, "CUDAPlace", lambda index: place)
    patch.setattr(capture, "CUDAGraph", Graph)
    # Graphs run as they were traced, on the CPU; as static.runner has it there, without oneDNN's passes.
    patch.setattr(paddle.inference.Config, "enable_use_gpu", lambda config, *_: config.disable_mkldnn())


def _arithmetic(patch: pytest.MonkeyPatch) -> None:
    methods = ((tensor, name) for tensor in TENSORS for name in (*OPERATORS, *METHODS))
    for owner, name in (*methods, *FUNCTIONS):
        patch.setattr(owner, name, rounded(getattr(owner, name)))


def rounded(function):
    """`function`, which computes float16 or bfloat16 in float32 and rounds what comes out."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        floats = {x.dtype for x in (*args, *kwargs.values()) if isinstance(x, TENSORS) and x.dtype in FLOATS}
        if len(floats) != 1 or not floats <= set(HALVES):
            return function(*args, **kwargs)
        (half,) = floats
        args = [_cast(x, half, "float32") for x in args]
        kwargs = {key: _cast(x, half, "float32") for key, x in kwargs.items()}
        return _cast(function(*args, **kwargs), paddle.float32, half)

    return played(function.__name__, call)


def _cast(x, dtype, to):
    return x.astype(to) if isinstance(x, TENSORS) and x.dtype == dtype else x


class Own:
    """Paddle's own GPU operations on a card, as a version declares them."""

    def __init__(self, capability: tuple[int, int], version: str):
        self.capability, self.facts = capability, FACTS[version]

    def function(self, name: str):
        """The one that the package would find, called as that version lets it be called; None where the version has none."""
        names = [f"{module}.{name}" for module in gpu.FUNCTIONS[name]]
        found = next((self.facts["signatures"][full] for full in names if full in self.facts["signatures"]), None)
        if found is None:
            return None
        signature = inspect.signature(eval(f"lambda {found}: None"))

        def call(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return getattr(self, name)(**bound.arguments)

        return played(name, call)

    def swiglu(self, x, y, name):
        assert y is None and x.dtype in FLOATS
        return definitions.swiglu(x)

    def fused_matmul_bias(self, x, y, bias, transpose_x, transpose_y, name):
        assert not transpose_x and transpose_y and x.dtype in FLOATS and x.ndim > 1
        assert x.dtype == y.dtype == bias.dtype and bias.shape == y.shape[:1] and not any(size % 8 for size in y.shape)
        product = paddle.matmul(x.astype("float32"), y.astype("float32"), transpose_y=True)
        return (product + bias.astype("float32")).astype(x.dtype)

    def fused_rms_norm(self, x, norm_weight, norm_bias, epsilon, begin_norm_axis, bias, residual, quant_scale, **_):
        assert norm_bias is None and bias is None and quant_scale <= 0 and begin_norm_axis == x.ndim - 1
        assert x.dtype in FLOATS and norm_weight.dtype == x.dtype
        if residual is None:
            return definitions.rms_norm(x, norm_weight, epsilon), None, None
        assert residual.dtype == x.dtype and residual.shape == x.shape
        return *definitions.rms_norm(x, norm_weight, epsilon, residual), None

    def flash_attn_unpadded(self, query, key, value, cu_seqlens_q, cu_seqlens_k, scale, causal, **others):
        if self.capability < (8, 0):
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
        tensors, bounds = (query, key, value), (cu_seqlens_q, cu_seqlens_k)
        assert query.dtype in HALVES and all(x.dtype == query.dtype and x.ndim == 3 for x in tensors)
        assert query.shape[-1] % 8 == 0 and query.shape[-1] <= 256 and query.shape[1] % key.shape[1] == 0
        assert others["dropout"] == 0 and not others["return_softmax"]
        traced = not paddle.in_dynamic_mode()
        for x, longest in zip(bounds, (others["max_seqlen_q"], others["max_seqlen_k"]), strict=True):
            assert x.dtype == paddle.int32
            if traced:  # a Scalar, which graphs may have as a tensor
                assert isinstance(longest, paddle.pir.Value) and longest.shape == []
            else:
                assert type(longest) is int and longest == max(np.diff(x.numpy()))
        return defined("varlen_attention")(*tensors, *bounds, causal, scale), None

    def variable_length_memory_efficient_attention(
        self, query, key, value, seq_lens, kv_seq_lens, mask, scale, causal, pre_cache_length
    ):
        tensors, lengths = (query, key, value), (seq_lens, kv_seq_lens)
        assert query.dtype in HALVES and all(x.dtype == query.dtype and x.ndim == 4 for x in tensors)
        assert query.dtype == paddle.float16 or self.capability >= (8, 0)
        assert query.shape[-1] % 8 == 0 and query.shape[1] % key.shape[1] == 0
        assert all(x.dtype == paddle.int32 and x.ndim == 2 and x.shape[1] == 1 for x in lengths)
        assert mask is None and not causal and pre_cache_length == 0
        q, k, v = (x.astype("float32") for x in tensors)
        slots = paddle.arange(paddle.shape(key)[2], dtype="int32")
        there, own = ((slots < x).unsqueeze(1) for x in (kv_seq_lens, seq_lens))
        scores = paddle.matmul(q, k, transpose_y=True) * scale
        weights = F.softmax(paddle.where(there.unsqueeze(2), scores, paddle.full([1], -np.inf)), axis=-1)
        out = paddle.where(own.unsqueeze(-1), paddle.matmul(weights, v), paddle.full([1], np.nan))
        return out.astype(query.dtype)

    def weight_quantize(self, x, algo, arch, group_size):
        arch = self._arch("weight_quantize", arch)
        assert algo == "weight_only_int8" and group_size == -1 and x.dtype in HALVES
        self._check_size(*x.shape)
        return quant.weight_quantize(x, algo, arch)

    def weight_only_linear(self, x, weight, bias, weight_scale, weight_dtype, arch, group_size):
        arch = self._arch("weight_only_linear", arch)
        outputs, inputs = weight.shape
        assert weight_dtype == "int8" and group_size == -1 and weight.dtype == paddle.int8
        assert x.dtype in HALVES and x.shape[-1] == inputs and weight_scale.shape == [outputs]
        assert all(y.dtype == x.dtype for y in (weight_scale, bias) if y is not None)
        self._check_size(inputs, outputs)
        byte = weight.flatten().astype("float32").gather(paddle.to_tensor(places(arch, outputs, inputs)))
        values = paddle.where(byte < 0, byte + 128, byte - 128).reshape([outputs, inputs])
        wide = (values * weight_scale.astype("float32").unsqueeze(-1)).astype(x.dtype).astype("float32")
        y = paddle.matmul(x.astype("float32"), wide, transpose_y=True)
        return (y if bias is None else y + bias.astype("float32")).astype(x.dtype)

    def _arch(self, name: str, arch: int | None) -> int:
        arch = 10 * self.capability[0] + self.capability[1] if arch is None else arch
        known = self.facts["architectures"][name].split()
        assert str(arch) in known, f"Currently weight_quantize only support SM{'/'.join(known)}. but got {arch} "
        return arch

    @staticmethod
    def _check_size(inputs: int, outputs: int) -> None:
        if inputs % 64 or outputs % 16:
            raise ValueError(f"(InvalidArgument) no weight-only kernel for {inputs} inputs and {outputs} outputs")


def places(arch: int, outputs: int, inputs: int) -> np.ndarray:
    """Where each value of a weight `[out, in]`, in this order, lies among the bytes that `weight_quantize` returns."""
    out, into = np.divmod(np.arange(outputs * inputs), inputs)
    if arch == 70:  # by inputs, and of four outputs the middle ones have changed places
        return into * outputs + out // 4 * 4 + np.array([0, 2, 1, 3])[out % 4]
    into = into // 16 * 16 + into % 8 * 2 + into % 16 // 8  # of sixteen inputs the halves take turns
    return out // 2 * 2 * inputs + into // 64 * 128 + out % 2 * 64 + into % 64  # and two outputs do, 64 inputs each
