"""Compiled operations on several threads."""

import ctypes
import re
from pathlib import Path

import numpy as np
import paddle
import paddlemix_qwenvl_ops as library
import pytest

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops import dispatch


def draw(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def compiled(name):
    return dispatch.CPU[name].run


@pytest.fixture
def threads():
    yield library.set_threads
    library.set_threads(0)


def test_openmp_has_what_the_compiler_calls():
    """What Paddle's OpenMP lacks the loader takes from another, to which each thread is alone: every one does all the work."""
    built = Path(library.__file__).with_name("_ops.so").read_bytes()
    called = {name.decode() for name in re.findall(rb"GOMP_[a-z]\w+", built)}
    assert "GOMP_parallel" in called
    openmp = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    runtime = ctypes.CDLL(str(openmp) if openmp.exists() else "libgomp.so.1")
    assert [name for name in sorted(called) if not hasattr(runtime, name)] == []


def attention():
    cu_seqlens = paddle.to_tensor([0, 5, 5, 400], dtype="int32")
    q, k, v = (draw(400, heads, 40, seed=seed) for seed, heads in enumerate((6, 2, 2)))
    for x in (q, k, v):
        x.stop_gradient = False
    out = ops.varlen_attention(q, k, v, cu_seqlens, cu_seqlens, causal=True)
    out.square().sum().backward()
    return out, q.grad, k.grad, v.grad


def decoding():
    lengths = paddle.to_tensor([700, 1, 300], dtype="int32")
    tables = paddle.to_tensor(np.random.default_rng(2).permutation(48).reshape(3, 16), dtype="int32")
    caches = draw(48, 2, 44, 40), draw(48, 2, 44, 40, seed=1)
    alone = compiled("decode_attention")(draw(3, 6, 40), *caches, tables, lengths)
    cu_seqlens = paddle.to_tensor([0, 300, 301, 302], dtype="int32")
    return [alone, compiled("cached_attention")(draw(302, 6, 40), *caches, cu_seqlens, tables, lengths)]


@pytest.mark.parametrize("rows", [1, 4, 8, 60, 333])
@pytest.mark.parametrize("operation", ["linear", "linear_swiglu"])
def test_products_on_threads(threads, operation, rows):
    """Of few outputs each thread takes some rows of x."""
    x, weight = draw(rows, 300), draw(1002, 300, seed=1).astype("bfloat16")
    threads(1)
    alone = compiled(operation)(x, weight).numpy()
    for count in (2, 3, 5, 24):
        threads(count)
        np.testing.assert_allclose(compiled(operation)(x, weight).numpy(), alone, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("work", [attention, decoding])
def test_attention_on_threads(threads, work):
    threads(1)
    alone = [x.numpy() for x in work()]
    for count in (2, 3, 5):
        threads(count)
        for found, wanted in zip(work(), alone, strict=True):
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)
