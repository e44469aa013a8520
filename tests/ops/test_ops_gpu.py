"""Paddle's own GPU operations as `ops.gpu` calls them, on a build without CUDA: what they are given fits the signatures that
the installed Paddle declares, in Python and in its operators, and means what the plain operations mean by it."""

import inspect

import numpy as np
import paddle
import pytest
from numpy_ops import close, float64, int32, tensor

from paddlemix_qwenvl.ops import dispatch, gpu
from paddlemix_qwenvl.ops.dispatch import PLAIN


def draw(shape, dtype="bfloat16", seed=0):
    return tensor(np.random.default_rng(seed).normal(size=shape), dtype)


class Recorder:
    """Stands in for one of Paddle's functions: notes its arguments by their declared names, answers by plain Paddle."""

    def __init__(self, monkeypatch, name, answer):
        self.real, self.answer, self.calls = getattr(gpu, name), answer, []
        monkeypatch.setattr(gpu, name, self)

    def __call__(self, *args, **kwargs):
        bound = inspect.signature(self.real).bind(*args, **kwargs)
        self.calls.append((args, kwargs))
        bound.apply_defaults()
        return self.answer(**bound.arguments)

    def replay(self, count: int = 1) -> list[list[int]]:
        """Shapes of the first outputs that the operator itself infers from the last arguments; a static graph runs no kernel."""
        args, kwargs = self.calls[-1]
        paddle.enable_static()
        try:
            with paddle.static.program_guard(paddle.static.Program()):
                graph = [_placeholder(i, x) for i, x in enumerate(args)]
                outputs = self.real(*graph, **{name: _placeholder(name, x) for name, x in kwargs.items()})
                outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
                return [list(y.shape) for y in outputs[:count]]
        finally:
            paddle.disable_static()

    def refuses_only_the_device(self):
        """The operator takes the arguments and then misses a kernel for the CPU."""
        with pytest.raises(TypeError, match=r"Check data type error for op: \w+, input: \w+, .* expected_dtype: *\("):
            self.replay()


def _placeholder(name, x):
    if not isinstance(x, paddle.Tensor):
        return x
    return paddle.static.data(f"input_{name}", x.shape, str(x.dtype).rpartition(".")[2])


def rms_norm_quant(x, norm_weight, norm_bias, epsilon, begin_norm_axis, residual, bias, quant_scale, **_):
    assert norm_bias is None and bias is None and begin_norm_axis == x.ndim - 1 and quant_scale <= 0
    y = PLAIN["rms_norm"](x, norm_weight, epsilon, residual)
    return (y, None) if residual is None else y


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 16)])
def test_rms_norm(monkeypatch, shape, with_residual):
    recorder = Recorder(monkeypatch, "fused_rms_norm", rms_norm_quant)
    x, weight = draw(shape, "float32"), draw(16, "bfloat16", 1)
    residual = draw(shape, "float32", 2) if with_residual else None
    found, wanted = (rms_norm(x, weight, 1e-6, residual) for rms_norm in (gpu.rms_norm, PLAIN["rms_norm"]))
    for y, expected in zip(found, wanted, strict=True) if with_residual else [(found, wanted)]:
        close(y, float64(expected))
    outputs = 1 + with_residual
    assert recorder.replay(outputs) == [list(shape)] * outputs


def test_swiglu(monkeypatch):
    recorder = Recorder(monkeypatch, "fused_swiglu", lambda x, y, name: PLAIN["swiglu"](x))
    gate_up = draw((5, 12), "float32")
    close(gpu.swiglu(gate_up), float64(PLAIN["swiglu"](gate_up)))
    assert recorder.replay() == [[5, 6]]


def flash(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale, dropout, causal, **others):
    assert dropout == 0 and not others["return_softmax"]
    assert max_seqlen_q == max(np.diff(cu_seqlens_q.numpy())) and max_seqlen_k == max(np.diff(cu_seqlens_k.numpy()))
    return PLAIN["varlen_attention"](query, key, value, cu_seqlens_q, cu_seqlens_k, causal, scale), None


@pytest.mark.parametrize("causal, scale", [(True, None), (False, 0.3)])
def test_varlen_attention(monkeypatch, causal, scale):
    monkeypatch.setattr(gpu, "_capability", lambda: (8, 0))
    recorder = Recorder(monkeypatch, "flash_attn_unpadded", flash)
    q, k, v = draw((9, 4, 80)), draw((12, 2, 80), seed=1), draw((12, 2, 80), seed=2)
    bounds = int32([0, 2, 9]), int32([0, 4, 12])
    found = gpu.varlen_attention(q, k, v, *bounds, causal, scale)
    close(found, float64(PLAIN["varlen_attention"](q, k, v, *bounds, causal, scale)), "bfloat16")
    gpu.varlen_attention(q, k, v, *bounds, causal, scale)
    assert len(recorder.calls) == 2 and bounds[0].longest == 7
    recorder.refuses_only_the_device()


@pytest.mark.parametrize(
    "dtype, head_dim, capability", [("float32", 80, (8, 0)), ("bfloat16", 20, (8, 0)), ("bfloat16", 64, (7, 5))]
)
def test_attention_that_has_no_flash_kernel(monkeypatch, dtype, head_dim, capability):
    monkeypatch.setattr(gpu, "_capability", lambda: capability)
    monkeypatch.setattr(gpu, "flash_attn_unpadded", None)
    q, bounds = draw((5, 2, head_dim), dtype), int32([0, 5])
    found = gpu.varlen_attention(q, q, q, bounds, bounds, causal=True)
    close(found, float64(PLAIN["varlen_attention"](q, q, q, bounds, bounds, True)), dtype)


def quantize(x, algo, arch, group_size):
    assert algo == "weight_only_int8" and group_size == -1
    quantized, scale = PLAIN["quantize_int8"](x.t())
    return quantized, scale.astype(x.dtype)


def weight_only(x, weight, bias, weight_scale, weight_dtype, arch, group_size):
    assert weight_dtype == "int8" and group_size == -1
    wide = PLAIN["linear_int8"](x.astype("float32"), weight, weight_scale.astype("float32"), bias)
    return wide.astype(x.dtype)


@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_int8(monkeypatch, with_bias):
    quantizer = Recorder(monkeypatch, "weight_quantize", quantize)
    product = Recorder(monkeypatch, "weight_only_linear", weight_only)
    weight, x, bias = draw((32, 64)), draw((3, 64), seed=1), draw(32, seed=2) if with_bias else None
    quantized, scale = gpu.quantize_int8(weight)
    assert quantized.shape == [32, 64] and quantized.dtype == paddle.int8
    y = gpu.linear_int8(x, quantized, scale, bias)
    wanted = float64(x) @ float64(weight).T + (float64(bias) if with_bias else 0)
    assert y.dtype == paddle.bfloat16 and np.abs(float64(y) - wanted).max() < 0.3
    assert quantizer.replay(2) == [[32, 64], [32]]
    product.refuses_only_the_device()


def test_int8_weights_that_have_no_kernel(monkeypatch):
    monkeypatch.setattr(gpu, "weight_quantize", None)
    weight, x = draw((20, 64), "float32"), draw((3, 64), "float32", 1)
    found = gpu.linear_int8(x, *gpu.quantize_int8(weight))
    close(found, float64(PLAIN["linear_int8"](x, *PLAIN["quantize_int8"](weight))))


def test_the_way_on_a_gpu(monkeypatch):
    """Paddle's own where there is one, and where a gradient is asked for, only what has one."""
    calls = []
    for name in gpu.__all__:
        monkeypatch.setattr(gpu, name, lambda *_, name=name: calls.append(name))
    monkeypatch.setattr(dispatch, "_gpu", gpu)
    monkeypatch.setattr(dispatch, "_on_gpu", lambda x: True)
    x, weight = draw((3, 16), "float32"), draw(16, "float32")
    dispatch.operation("rms_norm")(x, weight, 1e-6)
    x.stop_gradient = False
    dispatch.operation("rms_norm")(x, weight, 1e-6)
    dispatch.operation("swiglu")(x)
    with paddle.no_grad():
        dispatch.operation("rms_norm")(x, weight, 1e-6)
    assert calls == ["rms_norm", "swiglu", "rms_norm"]
    assert dispatch.status()["varlen_attention"] == "Paddle's own, on a GPU"
    assert dispatch.status()["mrope_tables"] == "plain Paddle"
