"""Paddle's own GPU operations as `ops.gpu` calls them, through the stand-in card; and what goes the plain way there, and why.

The stand-in holds each call to the signatures of a Paddle version.
"""

import numpy as np
import paddle
import pytest
from gpu_stand_in import FACTS, card
from numpy_ops import close, float64, int32, running_totals, tensor
from op_definitions import attention, rms_norm, swiglu
from paged import Paged
from recorder import Recorder, draw

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops import definitions, dispatch, gpu
from paddlemix_qwenvl.ops.version import Version

DTYPES = ["float32", "bfloat16", "float16"]
HALVES = DTYPES[1:]
VERSIONS = sorted(FACTS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_residual", [False, True])
def test_rms_norm(version, dtype, with_residual):
    x, weight, residual = draw((2, 3, 16), dtype), draw(16, "bfloat16", 1), draw((2, 3, 16), dtype, 2)
    total = x.astype("float32") + residual.astype("float32") * with_residual
    with card((8, 0), version) as patch:
        recorder = Recorder(patch, "fused_rms_norm")
        found = ops.rms_norm(x, weight, 1e-6, residual if with_residual else None)
    y = found[0] if with_residual else found
    close(y, rms_norm(float64(total), float64(weight), 1e-6), dtype)
    if with_residual:
        close(found[1], float64(total), dtype)
    if dtype == "float32":  # the operator has no kernel for the others on a CPU
        assert recorder.replay(1 + with_residual) == [[2, 3, 16]] * (1 + with_residual)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu(version, dtype):
    gate_up = draw((5, 12), dtype)
    with card((8, 0), version) as patch:
        recorder = Recorder(patch, "swiglu")
        close(ops.swiglu(gate_up), swiglu(float64(gate_up)), dtype)
    if dtype == "float32":
        assert recorder.replay() == [[5, 6]]


def attend(dtype: str, head_dim: int, causal: bool = True, scale: float | None = None):
    """Of two segments: what is found and what is wanted."""
    lengths, key_lengths = [2, 7], [4, 8]
    q, k, v = (draw((n, h, head_dim), dtype, n + h) for n, h in ((9, 4), (12, 2), (12, 2)))
    bounds = running_totals(lengths), running_totals(key_lengths)
    found = [ops.varlen_attention(q, k, v, *bounds, causal, scale) for _ in range(2)]  # as two layers do
    numbers = (float64(x) for x in (q, k, v))
    return found[1], attention(*numbers, lengths, key_lengths, causal, scale or head_dim**-0.5), bounds


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("causal, scale", [(True, None), (False, 0.3)])
@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (12, 0)])
def test_flash_attention(version, causal, scale, capability):
    with card(capability, version) as patch:
        assert ops.status()["varlen_attention"] == "Paddle's own, on a GPU"
        recorder = Recorder(patch, "flash_attn_unpadded")
        found, wanted, bounds = attend("bfloat16", 80, causal, scale)
        close(found, wanted, "bfloat16")
        assert len(recorder.calls) == 2 and bounds[0].longest == 7
    recorder.refuses_only_the_device()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_pictures_without_flash_attention(version, capability):
    """Segments of different lengths, each filled up; what is causal or has a gradient goes the plain way."""
    lengths = [3, 8, 1]
    q, k, v = (draw((12, 2, 80), "float16", seed) for seed in range(3))
    bounds = running_totals(lengths)
    wanted = attention(*(float64(x) for x in (q, k, v)), lengths, lengths, False, 0.3)
    with card(capability, version) as patch:
        status = ops.status()["varlen_attention"]
        recorder = Recorder(patch, "variable_length_memory_efficient_attention")
        with paddle.no_grad():
            close(ops.varlen_attention(q, k, v, bounds, bounds, False, 0.3), wanted, "float16")
            assert len(recorder.calls) == 1
            ops.varlen_attention(q, k, v, bounds, bounds, True)
        q.stop_gradient = False
        ops.varlen_attention(q, k, v, bounds, bounds)
        assert len(recorder.calls) == 1
    assert status.startswith("pictures in float16 by Paddle's own, the rest plain Paddle (flash attention needs")


@pytest.mark.parametrize(
    "dtype, head_dim, capability", [("float32", 80, (8, 0)), ("bfloat16", 20, (8, 0)), ("float16", 64, (7, 5))]
)
def test_attention_that_has_no_flash_kernel(dtype, head_dim, capability):
    with card(capability) as patch:
        recorder = Recorder(patch, "flash_attn_unpadded")
        close(*attend(dtype, head_dim)[:2], dtype)
        assert not recorder.calls
        status = ops.status()["varlen_attention"]
    if capability == (7, 5):
        assert status.endswith("plain Paddle (flash attention needs compute capability 8.0, this is 7.5)")


class Cached:
    """New tokens of rows against a paged cache, and what is wanted of them."""

    LENGTHS = (70, 9, 33, 5)

    def __init__(self, new, dtype="bfloat16", head_dim=64):
        paged = Paged(self.LENGTHS, 2, head_dim, 16, shared=1)
        q, k, v = draw((sum(new), 4, head_dim), dtype), tensor(paged.k, dtype), tensor(paged.v, dtype)
        self.arguments = q, k, v, running_totals(new), int32(paged.block_tables), int32(self.LENGTHS)
        keys, values = (paged.tokens(float64(cache)) for cache in (k, v))
        self.wanted = attention(float64(q), keys, values, new, self.LENGTHS, True, head_dim**-0.5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("new", [(30, 1, 0, 5), (1, 1, 1, 1)], ids=str)
def test_cached_attention(version, new):
    """By flash attention, which is given what rows with new tokens see; what is where is asked once for all layers."""
    cached = Cached(new)
    with card((8, 0), version) as patch:
        recorder = Recorder(patch, "flash_attn_unpadded")
        found = [ops.cached_attention(*cached.arguments) for _ in range(2)]
        assert ops.status()["cached_attention"] == "Paddle's own, on a GPU"
    close(found[1], cached.wanted, "bfloat16")
    (first, _), (second, _) = recorder.calls[-2:]
    assert first[1].shape[0] == sum(length for length, count in zip(cached.LENGTHS, new, strict=True) if count)
    assert first[4] is second[4]


@pytest.mark.parametrize(
    "new, dtype, capability, by_kernel",
    [
        ((1, 1, 1, 1), "bfloat16", (8, 0), True),
        ((4, 1, 0, 11), "bfloat16", (8, 0), True),
        ((4, 1, 0, 12), "bfloat16", (8, 0), False),
        ((0, 0, 0, 0), "bfloat16", (8, 0), True),
        ((70, 9, 33, 5), "float32", (8, 0), True),
        ((70, 9, 33, 5), "float16", (7, 5), True),
    ],
)
def test_cached_attention_beside_a_kernel(new, dtype, capability, by_kernel):
    """A few tokens a row, and what has no flash kernel, are left to the one in CUDA."""
    cached, calls = Cached(new, dtype), []
    kernel = Version(lambda *x: calls.append(x) or definitions.cached_attention(*x), False, lambda: "compiled for CUDA")
    with card(capability) as patch:
        patch.setattr(dispatch, "GPU", gpu.versions({"cached_attention": kernel}))
        found = dispatch.fastest("cached_attention")(*cached.arguments)
        assert ops.status()["cached_attention"] == "compiled for CUDA"
    close(found, cached.wanted, dtype)
    assert len(calls) == by_kernel


def test_a_number_over_float16s_largest_is_infinite():
    """As in Paddle's kernels, so that a test sees it."""
    x = paddle.full([2, 16], 40000.0, "float16")
    with card((7, 0)):
        _, total = ops.rms_norm(x, paddle.ones([16]), 1e-6, x)
        assert np.isinf(total.numpy()).all() and np.isinf((x + x).numpy()).all()
        assert np.isinf(ops.linear(x, x).numpy()).all()


def larger(function):
    return lambda *args, **kwargs: function(*args, **kwargs) * 1.25


def unsupported(*args, **kwargs):
    raise RuntimeError("(Unimplemented) Please compile with cutlass to make cutlass available\n  [Hint: ...]")


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda function: None, "Paddle 3.3.1 has no weight_only_linear"),
        (lambda function: unsupported, "(Unimplemented) Please compile with cutlass to make cutlass available"),
        (larger, "Paddle's results are 25% off on this card"),
    ],
    ids=["missing", "refused", "wrong"],
)
def test_what_a_function_of_paddle_may_be(change, reason):
    """Missing in a version, built without a part of it, wrong: the plain way is taken, and the status says why."""
    with card((8, 0)) as patch:
        patch.setattr(gpu._paddle, "weight_only_linear", change(gpu._paddle.weight_only_linear))
        quantized, status = ops.quantize_int8(draw((32, 64))), ops.status()["linear_int8"]
    assert not quantized.arranged and status == f"plain Paddle ({reason})"


@pytest.mark.parametrize(
    "operation, function",
    [
        ("rms_norm", "fused_rms_norm"),
        ("swiglu", "swiglu"),
        ("varlen_attention", "flash_attn_unpadded"),
        ("cached_attention", "flash_attn_unpadded"),
    ],
)
def test_operations_whose_function_is_missing(operation, function):
    with card((8, 0)) as patch:
        patch.setattr(gpu._paddle, function, None)
        assert gpu.versions({})[operation].run is getattr(definitions, operation)
        assert ops.status()[operation] == f"plain Paddle (Paddle 3.3.1 has no {function})"


def test_the_way_on_a_gpu():
    """Paddle's own where there is one, and where a gradient is asked for, only what has one."""
    x, weight, calls = draw((3, 16), "float32"), draw(16, "float32"), []
    with card((8, 0)) as patch:
        for name in ("rms_norm", "swiglu"):
            noted = dispatch.GPU[name]._replace(run=lambda *_, name=name: calls.append(name))
            patch.setitem(dispatch.GPU, name, noted)
            patch.setattr(ops, name, dispatch.fastest(name))
        ops.rms_norm(x, weight, 1e-6)
        x.stop_gradient = False
        ops.rms_norm(x, weight, 1e-6)
        ops.swiglu(x)
        with paddle.no_grad():
            ops.rms_norm(x, weight, 1e-6)
        assert calls == ["rms_norm", "swiglu", "rms_norm"]
        assert ops.status()["mrope_tables"] == "plain Paddle"


def test_nothing_of_the_card_is_left():
    before = ops.status(), ops.rms_norm, paddle.get_device(), paddle.ones([1]).place.is_cpu_place()
    with card((8, 0)):
        assert paddle.get_device() == "gpu:0" and paddle.ones([1]).place.is_gpu_place()
    assert (ops.status(), ops.rms_norm, paddle.get_device(), paddle.ones([1]).place.is_cpu_place()) == before
