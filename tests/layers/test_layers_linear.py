"""Linear layers against NumPy: whole, merged, split over ranks, and as int8."""

import numpy as np
import paddle
import pytest
from gpu_stand_in import card

from paddlemix_qwenvl.layers.formats import Int8
from paddlemix_qwenvl.layers.linear import Linear, MergedColumnParallelLinear, RowParallelLinear, gate_up_linear
from paddlemix_qwenvl.layers.parameter import pieces_of
from paddlemix_qwenvl.parallel import TensorParallel, using

DRAWS = np.random.default_rng(0)


def draw(*shape) -> np.ndarray:
    return DRAWS.standard_normal(shape).astype(np.float32)


def fill(layer, weight: np.ndarray, bias: np.ndarray | None = None):
    layer.weight.set_value(weight)
    if bias is not None:
        layer.bias.set_value(bias)
    return layer


def output(layer, x: np.ndarray) -> np.ndarray:
    return layer(paddle.to_tensor(x)).numpy()


class Alone(TensorParallel):
    """A rank that keeps its part, so that a test can add the parts up."""

    def all_reduce(self, x, largest: bool = False):
        return x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(7,), (1,), (2, 3)], ids=str)
def test_linear_is_x_times_w_transposed(bias, rows):
    x, weight, offset = draw(*rows, 5), draw(6, 5), draw(6)
    layer = fill(Linear(5, 6, bias=bias), weight, offset if bias else None)
    np.testing.assert_allclose(output(layer, x), x @ weight.T + (offset if bias else 0), atol=1e-5)
    assert [list(p.shape) for p in layer.parameters()] == ([[6, 5], [6]] if bias else [[6, 5]])


def test_fresh_weights_are_as_large_as_their_inputs_allow():
    paddle.seed(0)
    layer = Linear(100, 50)
    weight = layer.weight.numpy()
    assert np.abs(weight).max() <= 0.1 and weight.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
    assert (layer.bias.numpy() == 0).all()


def test_pieces_of_a_whole_layer():
    layer = Linear(24, 4, file_shape=(4, 3, 2, 2, 2))
    assert [(p.shape, p.linear) for p in pieces_of(layer.weight)] == [((4, 3, 2, 2, 2), False)]
    assert [(p.shape, p.linear) for p in pieces_of(Linear(3, 4).weight)] == [((4, 3), True)]
    assert [(p.shape, p.linear) for p in pieces_of(Linear(3, 4).bias)] == [((4,), False)]


def from_hub(layer, tensors: dict[str, np.ndarray], path: str):
    """Fill a layer at `path` from Hub tensors by its pieces, as loading does."""
    for leaf, parameter in (("weight", layer.weight), ("bias", layer.bias)):
        if parameter is None:
            continue
        value = np.full(parameter.shape, np.nan, np.float32)
        for piece in pieces_of(parameter):
            tensor = tensors[piece.name(f"{path}.{leaf}")]
            assert tensor.shape == piece.shape
            value[piece.rows] = tensor[piece.source]
        assert not np.isnan(value).any()
        parameter.set_value(value)
    return layer


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_merged_layer_holds_its_hub_layers_under_one_another(degree):
    names = {"q_proj": 6, "k_proj": 4, "v_proj": 4}
    tensors = {f"attn.{name}.weight": draw(size, 5) for name, size in names.items()}
    tensors |= {f"attn.{name}.bias": draw(size) for name, size in names.items()}
    x, found = draw(3, 5), {name: [] for name in names}
    for rank in range(degree):
        shares = [(name, size, *TensorParallel(rank, degree).split(size)) for name, size in names.items()]
        layer = from_hub(MergedColumnParallelLinear(5, shares, bias=True), tensors, "attn.qkv_proj")
        cuts = np.cumsum([stop - start for _, _, start, stop in shares])[:-1]
        for name, part in zip(names, np.split(output(layer, x), cuts, axis=-1), strict=True):
            found[name].append(part)
    for name, parts in found.items():
        wanted = x @ tensors[f"attn.{name}.weight"].T + tensors[f"attn.{name}.bias"]
        np.testing.assert_allclose(np.concatenate(parts, axis=-1), wanted, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_shares_of_one_merged_hub_tensor(degree):
    """The vision tower's qkv is one tensor on the Hub: a rank takes its heads of each third."""
    tensors = {"qkv.weight": draw(24, 5), "qkv.bias": draw(24)}
    x = draw(3, 5)
    parts = []
    for rank in range(degree):
        start, stop = TensorParallel(rank, degree).split(8)
        layer = from_hub(MergedColumnParallelLinear(5, [(None, 8, start, stop)] * 3, bias=True), tensors, "qkv")
        parts.append(output(layer, x).reshape(3, 3, -1))
    wanted = x @ tensors["qkv.weight"].T + tensors["qkv.bias"]
    np.testing.assert_allclose(np.concatenate(parts, axis=-1).reshape(3, 24), wanted, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gate_and_up(degree):
    tensors = {"mlp.gate_proj.weight": draw(7, 5), "mlp.up_proj.weight": draw(7, 5)}
    x, gates, ups = draw(2, 5), [], []
    for rank in range(degree):
        with using(TensorParallel(rank, degree)):
            layer = from_hub(gate_up_linear(5, 7, bias=False), tensors, "mlp.gate_up_proj")
        gate, up = np.split(layer.product(paddle.to_tensor(x), None).numpy(), 2, axis=-1)
        np.testing.assert_allclose(output(layer, x), gate / (1 + np.exp(-gate)) * up, atol=1e-5)
        gates.append(gate)
        ups.append(up)
    np.testing.assert_allclose(np.concatenate(gates, -1), x @ tensors["mlp.gate_proj.weight"].T, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(ups, -1), x @ tensors["mlp.up_proj.weight"].T, atol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_rows_of_all_ranks_add_up_with_one_bias(degree):
    tensors = {"o.weight": draw(6, 7), "o.bias": draw(6)}
    x, total = draw(4, 7), 0
    for rank in range(degree):
        with using(Alone(rank, degree)):
            start, stop = TensorParallel(rank, degree).split(7)
            layer = from_hub(RowParallelLinear(7, 6, start, stop, bias=True), tensors, "o")
        total = total + output(layer, x[:, start:stop])
    np.testing.assert_allclose(total, x @ tensors["o.weight"].T + tensors["o.bias"], atol=1e-5)


def test_int8_is_within_half_a_step_of_the_weight():
    weight = draw(6, 40) * np.array([[1e-3], [1], [50], [0], [1], [1]], np.float32)
    layer = fill(Linear(40, 6), weight, draw(6))
    x = draw(3, 40)
    exact = output(layer, x)
    layer.quantize("int8")
    assert layer.weight.dtype == paddle.int8 and layer.scale.shape == [6]
    steps = layer.scale.numpy()[:, None]
    np.testing.assert_allclose(steps[:, 0], np.abs(weight).max(1) / 127, rtol=1e-6)
    assert (np.abs(layer.weight.numpy() * steps - weight) <= steps * 0.5001).all()
    bound = np.abs(x).sum(1, keepdims=True) * steps[:, 0] * 0.5001 + 1e-5
    assert (np.abs(output(layer, x) - exact) <= bound).all()
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


def test_int8_of_a_merged_layer_keeps_a_scale_for_each_output():
    layer = gate_up_linear(16, 5, bias=True)
    x = draw(2, 16)
    exact = output(layer, x)
    layer.quantize("int8")
    np.testing.assert_allclose(output(layer, x), exact, atol=0.02)
    assert np.abs(output(layer, x) - exact).max() > 0


@pytest.mark.parametrize("capability, dtype", [((7, 0), "float16"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")])
@pytest.mark.parametrize("size", [128, 300, 384], ids=str)
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_int8_rows_of_all_ranks_add_up_on_a_gpu(capability, dtype, size, degree):
    """Whether a rank's part fits the kernel as it is or is filled up for it; 12.0 has none."""
    tensors = {"o.weight": draw(32, size), "o.bias": draw(32)}
    x, total = paddle.to_tensor(draw(4, size)).astype(dtype), 0
    for rank in range(degree):
        start, stop = TensorParallel(rank, degree).split(size)
        with using(Alone(rank, degree)):
            layer = from_hub(RowParallelLinear(size, 32, start, stop, bias=True), tensors, "o").to(dtype=dtype)
        with card(capability):
            layer.quantize("int8")
            y = layer(x[:, start:stop])
        assert layer.format == Int8(arranged=capability != (12, 0)) and y.dtype == x.dtype
        total = total + y.astype("float32").numpy()
    wanted = x.astype("float32").numpy() @ tensors["o.weight"].T + tensors["o.bias"]
    assert np.linalg.norm(total - wanted) < 0.02 * np.linalg.norm(wanted)


@pytest.mark.parametrize("inputs, filled", [(7392, 7424), (3696, 3712), (3420, 3456), (8192, 8192)])
def test_inputs_are_filled_up_once_for_the_kernel(inputs, filled):
    """The 72B's down_proj at 4 and 8 ranks, and the vision tower's."""
    layer = Linear(inputs, 16, bias=False).to(dtype="bfloat16")
    with card((8, 0)):
        layer.quantize("int8")
    assert layer.format == Int8(arranged=True) and layer.weight.shape == [16, filled] and layer.scale.shape == [16]
