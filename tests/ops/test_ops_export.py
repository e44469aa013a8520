"""The operations in a static graph with free dimensions, saved, loaded and run by Paddle's predictor."""

import numpy as np
import paddle
import pytest
from numpy_ops import float64, int32, running_totals, tensor
from paddle.static import InputSpec

from paddlemix_qwenvl.ops.int8 import Int8Weight

HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE = 4, 2, 20, 3
TABLES = np.array([[4, 7, 0, 8], [2, 9, 5, 8]])  # row by row


class Step(paddle.nn.Layer):
    """One layer of a decoder that takes any number of new tokens a row, with every operation of a model somewhere in it."""

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

    def forward(self, x, positions, cu_seqlens, k_cache, v_cache, slot_mapping, block_tables, lengths):
        way = self.way
        cos, sin = way.mrope_tables(positions, paddle.full([HEAD_DIM // 2], 0.3), [3, 3, 4])
        y, total = way.rms_norm(x, self.norm, 1e-6, residual=x)
        y = way.layer_norm(y, self.norm, self.bias, 1e-6)
        qkv = way.linear(y, self.qkv)
        q, k, v = way.qkv_transpose_split(qkv, cos, sin, HEADS, KV_HEADS)
        own = way.varlen_attention(q, k, v, cu_seqlens, cu_seqlens, True)
        q, k_cache, v_cache = way.qkv_write_cache(qkv, cos, sin, k_cache, v_cache, slot_mapping, HEADS)
        out = own + way.cached_attention(q, k_cache, v_cache, cu_seqlens, block_tables, lengths)
        last = paddle.gather(q, cu_seqlens[1:] - 1)
        out = out + way.decode_attention(last, k_cache, v_cache, block_tables, lengths).mean(0)
        y = total + way.linear_int8(out.flatten(1), Int8Weight(self.down, self.scale), self.bias)
        return way.swiglu(way.linear(y, self.up)) + way.linear_swiglu(y, self.up), k_cache, v_cache


def specification():
    free, cache = None, [None, KV_HEADS, None, HEAD_DIM]
    shapes = {
        "x": ([free, HEADS * HEAD_DIM], "float32"),
        "positions": ([3, free], "int64"),
        "cu_seqlens": ([free], "int32"),
        "k_cache": (cache, "bfloat16"),
        "v_cache": (cache, "bfloat16"),
        "slot_mapping": ([free], "int32"),
        "block_tables": ([free, free], "int32"),
        "lengths": ([free], "int32"),
    }
    return [InputSpec(shape, dtype, name) for name, (shape, dtype) in shapes.items()]


def slots_of(row, start, stop, block_size=BLOCK_SIZE):
    places = np.arange(start, stop)
    return TABLES[row, places // block_size] * block_size + places % block_size


def empty_caches(block_size=BLOCK_SIZE, value=0.0, blocks=10):
    return [tensor(np.full((blocks, KV_HEADS, block_size, HEAD_DIM), value), "bfloat16") for _ in range(2)]


def inputs(new, filled, caches):
    """Rows that get `new` tokens each after `filled` ones."""
    draws, spans = np.random.default_rng(sum(filled)), list(zip(filled, np.add(filled, new), strict=True))
    slots = [slots_of(row, *span, caches[0].shape[2]) for row, span in enumerate(spans)]
    return [
        tensor(draws.normal(size=(sum(new), HEADS * HEAD_DIM))),
        paddle.to_tensor(np.tile(np.concatenate([np.arange(*span) for span in spans]), (3, 1))),
        running_totals(new),
        *caches,
        int32(np.concatenate(slots)),
        int32(TABLES),
        int32(np.add(filled, new)),
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
    ours, theirs, filled = empty_caches(), empty_caches(), np.array([0, 0])
    for new in ([5, 3], [1, 4], [1, 1]):
        y, *ours = step(*inputs(new, filled, ours))
        found, *theirs = predictor.run(inputs(new, filled, theirs))
        np.testing.assert_allclose(float64(found), float64(y), rtol=1e-4, atol=1e-4)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(float64(other), float64(mine), rtol=1e-2, atol=1e-2)
        filled = filled + new
    used = np.concatenate([slots_of(row, 0, length) for row, length in enumerate(filled)])
    for cache in theirs:
        written = (float64(cache) != 0).any(axis=(1, 3)).ravel()
        assert sorted(used) == np.flatnonzero(written).tolist()


@pytest.mark.parametrize("block_size, blocks", [(BLOCK_SIZE, 10), (BLOCK_SIZE, 13), (BLOCK_SIZE + 4, 10)])
def test_slots_that_a_graph_does_not_write_stay_what_they_are(predictor, block_size, blocks):
    """In every run, with caches of any size: they may be another prompt's, or nothing yet."""
    _, predictor = predictor
    for sizes, value in (((BLOCK_SIZE, 10), 0.0), ((block_size, blocks), 1.0)):
        _, *found = predictor.run(inputs([5, 3], [0, 0], empty_caches(sizes[0], value, sizes[1])))
        used = [slots_of(row, 0, length, sizes[0]) for row, length in enumerate([5, 3])]
        for cache in map(float64, found):
            tokens = cache.transpose(0, 2, 1, 3).reshape(-1, KV_HEADS, HEAD_DIM)
            written = tokens[np.concatenate(used)]
            assert (np.delete(tokens, np.concatenate(used), axis=0) == value).all()
            assert np.abs(written).max() < 100 and not (written == value).all(axis=(1, 2)).any()
