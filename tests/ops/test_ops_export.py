"""The operations in a static graph with free dimensions, saved, loaded and run by Paddle's predictor."""

import numpy as np
import paddle
import pytest
from numpy_ops import float64, int32, running_totals, tensor
from paddle.static import InputSpec

from paddlemix_qwenvl.ops.int8 import Int8Weight

HEADS, KV_HEADS, HEAD_DIM, SLOTS = 4, 2, 20, 30


class Step(paddle.nn.Layer):
    """One layer of a decoder that takes any number of new tokens a row, with every operation somewhere in it."""

    def __init__(self, way):
        super().__init__()
        draws = np.random.default_rng(0)
        size = HEADS * HEAD_DIM
        self.way = way
        self.weights = {
            "qkv": tensor(draws.normal(size=((HEADS + 2 * KV_HEADS) * HEAD_DIM, size)) / 9, "bfloat16"),
            "norm": tensor(draws.normal(size=size)),
            "bias": tensor(draws.normal(size=size)),
            "up": tensor(draws.normal(size=(2 * size, size)) / 9),
        }
        quantized, scale, _ = way.quantize_int8(tensor(draws.normal(size=(size, size)) / 9))
        for name, value in {**self.weights, "down": quantized, "scale": scale}.items():
            self.register_buffer(name, value)

    def forward(self, x, positions, cu_seqlens, k_cache, v_cache, rows, slots, lengths, uniform):
        way = self.way
        cos, sin = way.mrope_tables(positions, paddle.full([HEAD_DIM // 2], 0.3), [3, 3, 4])
        y, total = way.rms_norm(x, self.norm, 1e-6, residual=x)
        y = way.layer_norm(y, self.norm, self.bias, 1e-6)
        qkv = way.linear(y, self.qkv)
        q, k, v = way.qkv_transpose_split(qkv, cos, sin, HEADS, KV_HEADS)
        own = way.varlen_attention(q, k, v, cu_seqlens, cu_seqlens, True)
        q, k_cache, v_cache = way.qkv_write_cache(qkv, cos, sin, k_cache, v_cache, rows, slots, HEADS)
        out = own + way.cached_attention(q, k_cache, v_cache, cu_seqlens, lengths)
        last = paddle.gather(q, cu_seqlens[1:] - 1)
        out = out + way.decode_attention(last, k_cache, v_cache, lengths).mean(0)
        y = total + way.linear_int8(out.flatten(1), Int8Weight(self.down, self.scale), self.bias)
        y = way.swiglu(way.linear(y, self.up))
        return y, k_cache, v_cache, way.sample(y, None, 1.0, 5, 0.9, 1.0, uniform)


def specification():
    free, cache = None, [None, KV_HEADS, None, HEAD_DIM]
    shapes = {
        "x": ([free, HEADS * HEAD_DIM], "float32"),
        "positions": ([3, free], "int64"),
        "cu_seqlens": ([free], "int32"),
        "k_cache": (cache, "bfloat16"),
        "v_cache": (cache, "bfloat16"),
        "rows": ([free], "int32"),
        "slots": ([free], "int32"),
        "lengths": ([free], "int32"),
        "uniform": ([free], "float32"),
    }
    return [InputSpec(shape, dtype, name) for name, (shape, dtype) in shapes.items()]


def inputs(new, filled, caches):
    """Rows that get `new` tokens each after `filled` ones."""
    draws, tokens = np.random.default_rng(sum(filled)), sum(new)
    places = [
        (row, before + i) for row, (count, before) in enumerate(zip(new, filled, strict=True)) for i in range(count)
    ]
    rows, slots = zip(*places, strict=True)
    return [
        tensor(draws.normal(size=(tokens, HEADS * HEAD_DIM))),
        paddle.to_tensor(np.tile(slots, (3, 1))),
        running_totals(new),
        *caches,
        int32(rows),
        int32(slots),
        int32(np.add(new, filled)),
        tensor(draws.random(tokens)),
    ]


@pytest.fixture
def predictor(way, tmp_path):
    step = Step(way)
    step.eval()
    static = paddle.jit.to_static(step, input_spec=specification(), full_graph=True)
    paddle.jit.save(static, str(tmp_path / "step"))
    config = paddle.inference.Config(str(tmp_path / "step.json"), str(tmp_path / "step.pdiparams"))
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.disable_mkldnn()  # its passes fuse an unsqueeze wrongly into mrope_tables
    config.enable_memory_optim()
    return step, paddle.inference.create_predictor(config)


def test_prompt_and_two_tokens_as_in_dynamic_mode(predictor):
    step, predictor = predictor
    ours, theirs = ([tensor(np.zeros((2, KV_HEADS, SLOTS, HEAD_DIM)), "bfloat16") for _ in range(2)] for _ in range(2))
    filled = np.array([0, 0])
    for new in ([5, 3], [1, 1], [1, 1]):
        y, *ours, tokens = step(*inputs(new, filled, ours))
        found, *theirs, found_tokens = predictor.run(inputs(new, filled, theirs))
        np.testing.assert_allclose(float64(found), float64(y), rtol=1e-4, atol=1e-4)
        assert found_tokens.numpy().tolist() == tokens.numpy().tolist()
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(float64(other), float64(mine), rtol=1e-2, atol=1e-2)
        filled = filled + new
    assert (float64(theirs[0])[0, :, 7:] == 0).all()
    assert (float64(theirs[0])[0, :, :7] != 0).any(-1).all()


@pytest.mark.parametrize("slots", [SLOTS, SLOTS + 3])
def test_slots_that_a_graph_does_not_write_stay_what_they_are(predictor, slots):
    """In every run, with caches of any size: they may be another prompt's, or nothing yet."""
    _, predictor = predictor
    for size, value in ((SLOTS, 0), (slots, 1)):
        caches = [tensor(np.full((2, KV_HEADS, size, HEAD_DIM), value), "bfloat16") for _ in range(2)]
        _, *found, _ = predictor.run(inputs([5, 3], [0, 0], caches))
        for cache in map(float64, found):
            assert (cache[0, :, 5:] == value).all() and (cache[1, :, 3:] == value).all()
            assert np.abs(cache[0, :, :5]).max() < 100 and not (cache[0, :, :5] == value).all()
