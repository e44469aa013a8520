"""Weight files that are damaged or of another model: one message each, which names file and tensor."""

import json
import re
from pathlib import Path

import hub_model
import numpy as np
import pytest
from hub_model import as_paddle_lays_them, assert_same, held_tensors
from safetensors.numpy import save_file

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.parameter import Piece, whole
from paddlemix_qwenvl.weights.checkpoint import open_folder
from paddlemix_qwenvl.weights.loading import load_weights

CONFIG = hub_model.config()
INDEX = "model.safetensors.index.json"
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
MODEL = Qwen2_5_VLForConditionalGeneration


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        MODEL.from_pretrained(folder)
    return str(caught.value)


def test_missing_tensor(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, {k: v for k, v in hub_tensors.items() if k != Q_PROJ})
    message = refused(tmp_path)
    assert f"{tmp_path}/model.safetensors does not fit the model: 1 tensors missing ({Q_PROJ})" in message
    assert "unexpected" not in message


def test_untied_head_is_missed(tmp_path):
    tensors = hub_model.tensors(hub_model.config(tie_word_embeddings=True))
    hub_model.write(tmp_path, CONFIG, tensors)
    assert "1 tensors missing (lm_head.weight)" in refused(tmp_path)


def test_unexpected_tensor(hub_tensors, tmp_path):
    name = "model.layers.2.mlp.up_proj.weight"
    weight_map = hub_model.write_shards(tmp_path, CONFIG, hub_tensors | {name: np.zeros((3, 3), np.float32)}, 2)
    message = refused(tmp_path)
    assert f"{tmp_path}/{INDEX} does not fit the model: 1 tensors unexpected ({name} in {weight_map[name]})" in message
    assert "missing" not in message


@pytest.mark.parametrize("shape", [(47, 48), (48, 48, 1), (48 * 48,)], ids=str)
def test_wrong_shape(hub_tensors, tmp_path, shape):
    hub_model.write(tmp_path, CONFIG, hub_tensors | {Q_PROJ: np.zeros(shape, np.float32)})
    wanted = f"{tmp_path}/model.safetensors: tensor {Q_PROJ!r} has shape {list(shape)}, the model needs [48, 48]"
    assert wanted in refused(tmp_path)


def test_linear_weights_the_wrong_way_round(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, as_paddle_lays_them(hub_tensors), "pt")
    assert "has shape [32, 96], the model needs [96, 32]" in refused(tmp_path)


def test_truncated_file(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, hub_tensors)
    path = tmp_path / "model.safetensors"
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    last = max((key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"][1])
    path.write_bytes(path.read_bytes()[:-4])
    assert f"{path} is truncated: tensor {last!r} ends at byte" in refused(tmp_path)


def test_missing_shard(hub_tensors, tmp_path):
    weight_map = hub_model.write_shards(tmp_path, CONFIG, hub_tensors, 30)
    gone = weight_map[Q_PROJ]
    (tmp_path / gone).unlink()
    message = refused(tmp_path)
    assert f"the weight file {tmp_path}/{gone} is missing" in message and INDEX in message and Q_PROJ in message


def test_index_that_promises_what_is_not_there(hub_tensors, tmp_path):
    weight_map = hub_model.write_shards(tmp_path, CONFIG, hub_tensors, 2)
    name = "model.layers.9.mlp.up_proj.weight"
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map | {name: weight_map[Q_PROJ]}}))
    assert f"{tmp_path}/{INDEX} promises tensor {name!r} in {weight_map[Q_PROJ]}, which does not" in refused(tmp_path)
    wrong = next(file for file in weight_map.values() if file != weight_map[Q_PROJ])
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map | {Q_PROJ: wrong}}))
    assert f"promises tensor {Q_PROJ!r} in {wrong}, which does not hold it" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", " cannot be read as JSON"),
        ("[]", r" holds \[\], expected a JSON object"),
        ("{}", ": weight_map is missing"),
        ('{"weight_map": []}', r": weight_map is \[\], expected an object"),
        ('{"weight_map": {}}', r": weight_map is \{\}, expected at least 1 item"),
        ('{"weight_map": {"a": 3}}', ": weight_map.a is 3, expected a valid string"),
        ('{"weight_map": {"a": "../b.safetensors"}}', r": weight_map.a is \"../b.safetensors\", expected"),
        ('{"weight_map": {"a": ""}}', ': weight_map.a is "", expected'),
    ],
)
def test_garbage_index(tmp_path, text, reason):
    hub_model.write_config(tmp_path, CONFIG)
    (tmp_path / INDEX).write_text(text)
    assert re.match(f"{tmp_path}/{INDEX}{reason}", refused(tmp_path))


@pytest.mark.parametrize(
    ("tensors", "layouts"),
    [
        ({"a": (3, 3), "b": (5, 5)}, "all square"),
        ({"a": (3, 4), "b": (6, 5)}, "one this way, one that"),
    ],
    ids=str,
)
def test_shapes_that_do_not_tell_the_layout(tmp_path, tensors, layouts):
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "model.safetensors")
    wanted = {"a": (3, 3), "b": (5, 5)} if layouts == "all square" else {"a": (3, 4), "b": (5, 6)}
    pieces = [(name, Piece(shape, whole(shape), slice(0, shape[0]), linear=True)) for name, shape in wanted.items()]
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/model\.safetensors says no format .* save it again with"):
        open_folder(tmp_path).settle_layout(pieces)


def safetensors_header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"\xff" * 64,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        safetensors_header("[]"),
        safetensors_header('{"x": 3}'),
        safetensors_header('{"x": {"dtype": "F32", "shape": [1]}}'),
        safetensors_header('{"x": {"dtype": "F32", "shape": [1], "data_offsets": ["0", 4]}}'),
        safetensors_header('{"x": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}}'),
        safetensors_header('{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'),
        safetensors_header('{"x": {"dtype": 7, "shape": [1], "data_offsets": [0]}}'),
        safetensors_header('{"__metadata__": 7, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
        safetensors_header("[" * 100_000),
        safetensors_header('{"__metadata__": {"format": "pt"}, "x": '),
    ],
    ids=range(14),
)
def test_garbage_file(tmp_path, content):
    hub_model.write_config(tmp_path, CONFIG)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert f"{tmp_path}/model.safetensors is not a readable safetensors file" in refused(tmp_path)


def test_garbage_pdparams(tmp_path):
    hub_model.write_config(tmp_path, CONFIG)
    (tmp_path / "model_state.pdparams").write_bytes(b"no pickle at all")
    with pytest.raises(CheckpointError, match=r"model_state\.pdparams is not a readable \.pdparams file"):
        MODEL.from_pretrained(tmp_path, allow_pickle=True)


def test_bytes_that_do_not_fit_the_shape(tmp_path):
    entry = {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}
    header = {"__metadata__": {"format": "pt"}, "x": entry}
    (tmp_path / "model.safetensors").write_bytes(safetensors_header(json.dumps(header), bytes(8)))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'x' of F32 \[3\] has 8 bytes"):
        open_folder(tmp_path).read("x", (3,), (slice(0, 3),), linear=False)


def test_a_dtype_that_is_not_read(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "x": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}}
    (tmp_path / "model.safetensors").write_bytes(safetensors_header(json.dumps(header), bytes(2)))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'x' is F8_E5M2, which cannot be read"):
        open_folder(tmp_path).read("x", (2,), (slice(0, 2),), linear=False)


def test_a_tensor_twice(hub_tensors, tmp_path):
    hub_model.write(tmp_path, CONFIG, hub_tensors | {"model.visual.merger.ln_q.weight": np.ones(32, np.float32)})
    assert "tensor 'visual.merger.ln_q.weight' is in" in refused(tmp_path)
    weight_map = hub_model.write_shards(tmp_path, CONFIG, hub_tensors, 2)
    hub_model.write(tmp_path, CONFIG, hub_tensors, name=sorted(weight_map.values())[0])
    message = refused(tmp_path)
    assert "model-00001-of-00002.safetensors and again in" in message and "model-00002-of-00002.safetensors" in message


def test_no_weights_at_all(tmp_path):
    hub_model.write_config(tmp_path, CONFIG)
    message = refused(tmp_path)
    assert f"{tmp_path} holds no weights" in message and "found config.json" in message


def test_nothing_is_filled_before_names_and_shapes_were_seen(hub_folder, hub_tensors, tmp_path):
    """A model that refused a checkpoint still holds what it held."""
    model = MODEL.from_pretrained(hub_folder)
    zeros = {name: np.zeros_like(value) for name, value in hub_tensors.items()}
    last = "model.norm.weight"
    for spoilt in (zeros | {last: np.zeros(47, np.float32)}, {k: v for k, v in zeros.items() if k != last}):
        hub_model.write(tmp_path / "spoilt", CONFIG, spoilt)
        with pytest.raises(CheckpointError, match=last):
            load_weights(model, open_folder(tmp_path / "spoilt"), "float32")
        assert_same(held_tensors(model, tmp_path / "held"), hub_tensors)
