"""Weights that the libraries packed themselves (tests/reference/quantised/make_golden.py), against what these unpack them to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import quantised_files as files
from cpu_paths import product_error, running_product
from reference.quantised import small

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import pieces_of
from paddlemix_qwenvl.weights.checkpoint import open_folder
from paddlemix_qwenvl.weights.groups import Awq, Gptq, Packed
from paddlemix_qwenvl.weights.layouts import Bytes, Floats
from paddlemix_qwenvl.weights.loading import load_weights
from paddlemix_qwenvl.weights.quantised import Laid, Source

FOLDER = Path(__file__).parents[1] / "reference" / "quantised"
GOLDEN, GREEDY = (np.load(FOLDER / name) for name in ("golden.npz", "greedy.npz"))
LAYOUTS = {
    "awq": Awq(32),
    "gptq": Gptq(32, version=2),
    "gptq act-order": Gptq(32, may_have_order=True, version=2),
    "packed": Packed(32, has_zeros=False),
    "packed zeros": Packed(32),
    "packed channel": Packed(None, has_zeros=False),
    "packed 8 bits": Packed(32, has_zeros=False, bits=8),
    "gptq 8 bits": Gptq(32, has_zeros=False, bits=8, version=2),
    "int8": Bytes(scale_of_each=True),
    "fp8": Floats(scale_of_each=True),
    "fp8 tensor": Floats(scale_of_each=False),
}


def product(tmp_path, tensors: dict, layout, x: np.ndarray) -> np.ndarray:
    """What a layer makes of `x` whose weight is in a file."""
    files.write(tmp_path, {}, {f"layer.{name}": value for name, value in tensors.items()})
    model = paddle.nn.Layer()
    model.layer, model.optional_weights = Linear(96, 64, bias=False), frozenset()
    weight = model.layer.weight
    weight.laid = Laid(model.layer, [Source(piece, "layer", layout) for piece in pieces_of(weight)])
    load_weights(model, open_folder(tmp_path), "float32")
    return model.layer(paddle.to_tensor(x)).numpy()


def golden(name: str) -> dict[str, np.ndarray]:
    return {key.partition("/")[2]: GOLDEN[key] for key in GOLDEN.files if key.partition("/")[0] == name}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_libraries_own_tensors(tmp_path, name):
    tensors = golden(name)
    value, version_1 = tensors.pop("value").astype(np.float64), tensors.pop("qzeros of version 1", None)
    x = np.random.default_rng(0).standard_normal((5, 96)).astype(np.float32)
    wanted = x @ value.T
    found = product(tmp_path, tensors, LAYOUTS[name], x)
    error = 1e-3 * np.abs(wanted).max()
    if isinstance(LAYOUTS[name], Floats):  # some CPUs multiply them in bfloat16
        error = max(error, product_error(running_product("fp8", len(x)), "fp8", x, value).max())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=error)
    if version_1 is not None:
        again = product(tmp_path / "1", {**tensors, "qzeros": version_1}, replace(LAYOUTS[name], version=1), x)
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("kind", small.KINDS)
def test_greedy_tokens_are_those_of_transformers(tmp_path, kind):
    """On the dense weights that a folder stands for (tests/reference/quantised/make_greedy.py)."""
    config = {**small.CONFIG, "quantization_config": small.KINDS[kind][0]}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(files.write(tmp_path, config, small.tensors(kind)[0]))
    inputs = {name: paddle.to_tensor(value) for name, value in small.prompt().items()}
    found, wanted = model(**inputs).logits.numpy()[0, -1], GREEDY[f"{kind}/logits"]
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()
    ids, _ = model.generate(**inputs, max_new_tokens=small.NEW_TOKENS, min_new_tokens=small.NEW_TOKENS)
    np.testing.assert_array_equal(ids.numpy()[0], GREEDY[f"{kind}/ids"])
