"""Which tensor of a checkpoint a parameter's piece is."""

import paddle
import pytest

from paddlemix_qwenvl.layers.parameter import Piece, pieces_of, whole


@pytest.mark.parametrize(
    ("path", "module", "name"),
    [
        ("model.norm.weight", None, "model.norm.weight"),
        ("model.layers.0.self_attn.qkv_proj.weight", "q_proj", "model.layers.0.self_attn.q_proj.weight"),
        ("qkv_proj.bias", "v_proj", "v_proj.bias"),
        ("gate_up_proj.gate_up_proj.weight", "up_proj", "gate_up_proj.up_proj.weight"),
    ],
)
def test_name(path, module, name):
    assert Piece((1,), (slice(0, 1),), slice(0, 1), module).name(path) == name


def test_a_parameter_that_says_nothing_is_one_tensor():
    parameter = paddle.create_parameter([3, 4], "float32")
    assert pieces_of(parameter) == [Piece((3, 4), (slice(0, 3), slice(0, 4)), slice(0, 3))]
    assert whole((2, 5)) == (slice(0, 2), slice(0, 5))
