"""The model's logits against a literal one, rows alone and together, with and without a cache; dtypes, int8, bad input."""

import re

import hub_model
import numpy as np
import paddle
import pytest
from mixed_batch import (
    BOTH,
    CLIP,
    IMAGE,
    ONE_IMAGE,
    PAD,
    ROWS,
    TEXT,
    THREE_IMAGES,
    Row,
    batch,
    literal_logits,
    real_logits,
)
from numpy_model import NumpyModel

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import MediaError, PromptError

SHAPES = {
    "two heads a key": {},
    "tied, four heads a key, no whole view": {
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "vision_config": {"fullatt_block_indexes": [], "window_size": 84},
    },
    "a key for each head, other numbers": {
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-2,
        "vision_config": {"num_heads": 4, "window_size": 28, "tokens_per_second": 25, "fullatt_block_indexes": [0, 2]},
    },
    "seven heads a key, whole view, deep": {
        "hidden_size": 56,
        "num_attention_heads": 7,
        "num_key_value_heads": 1,
        "num_hidden_layers": 3,
        "rope_scaling": {"rope_type": "default", "mrope_section": [0, 1, 3]},
        "vision_config": {"depth": 1, "fullatt_block_indexes": [0], "window_size": 112, "out_hidden_size": 56},
    },
}


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mixed_batch_is_what_a_literal_model_computes(tmp_path, shape):
    config = hub_model.config(**SHAPES[shape])
    tensors = hub_model.tensors(config, seed=5)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_model.write(tmp_path, config, tensors))
    literal, rows = NumpyModel(config, tensors), list(ROWS.values())
    found = real_logits(model(**batch(rows)).logits, rows)
    for row, logits in zip(rows, found, strict=True):
        close(logits, literal_logits(literal, row))


@pytest.fixture(scope="module")
def alone(model):
    """Logits of every row in a batch of its own."""
    return {name: model(**batch([row])).logits.numpy()[0] for name, row in ROWS.items()}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "names", [list(ROWS), list(ROWS)[::-1], ["text", "one image"], ["both", "text", "both"]], ids=str
)
def test_rows_do_not_see_each_other(model, alone, names, side):
    rows = [ROWS[name] for name in names]
    found = real_logits(model(**batch(rows, side)).logits, rows, side)
    for name, logits in zip(names, found, strict=True):
        close(logits, alone[name], 2e-5)


def test_padding_in_the_middle_of_a_row(model, alone):
    """Nothing asks for it, but a mask may have holes."""
    ids = [PAD, *TEXT.ids[:2], PAD, PAD, *TEXT.ids[2:], PAD]
    mask = [0, 1, 1, 0, 0, 1, 1, 0]
    logits = model(paddle.to_tensor([ids]), attention_mask=paddle.to_tensor([mask])).logits.numpy()[0]
    close(logits[np.array(mask, bool)], alone["text"], 2e-5)


def test_what_stands_at_padding_does_not_matter(model):
    given = batch([TEXT, ONE_IMAGE])
    other = given["input_ids"].numpy().copy()
    other[given["attention_mask"].numpy() == 0] = IMAGE
    wanted = model(**given).logits.numpy()
    np.testing.assert_array_equal(model(**{**given, "input_ids": paddle.to_tensor(other)}).logits.numpy(), wanted)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_masks_of_any_dtype(model, dtype):
    given = batch([TEXT, CLIP])
    wanted = model(**given).logits.numpy()
    given["attention_mask"] = given["attention_mask"].astype(dtype)
    np.testing.assert_array_equal(model(**given).logits.numpy(), wanted)


def test_without_a_mask_everything_counts(model, alone):
    given = batch([ONE_IMAGE])
    del given["attention_mask"]
    close(model(**given).logits.numpy()[0], alone["one image"], 1e-6)


def test_positions_may_be_given(model):
    given = batch([TEXT, BOTH])
    positions, deltas = model.get_rope_index(
        given["input_ids"],
        given["image_grid_thw"],
        given["video_grid_thw"],
        given["second_per_grid_ts"],
        given["attention_mask"],
    )
    output = model(**given)
    close(model(**given, position_ids=positions).logits.numpy(), output.logits.numpy(), 1e-6)
    assert output.rope_deltas.tolist() == deltas.tolist()
    shifted = model(**given, position_ids=positions + 100).logits.numpy()
    close(shifted, output.logits.numpy(), 1e-3)  # rotary attention sees differences alone
    assert np.abs(model(**given, position_ids=positions * 3).logits.numpy() - output.logits.numpy()).max() > 0.1


def test_features_alone(model, hub_tensors):
    """Windows, frames and several images at once, by the vision tower itself."""
    literal = NumpyModel(hub_model.config(), hub_tensors)
    pixels, grids = zip(*THREE_IMAGES.images, *CLIP.videos, *ONE_IMAGE.images, strict=True)
    found = model.visual(paddle.to_tensor(np.concatenate(pixels)), paddle.to_tensor(np.array(grids)))
    close(found.numpy(), literal.features(np.concatenate(pixels), grids))


def test_what_forward_returns(model):
    given = batch([TEXT])
    output = model(**given)
    assert output.loss is None and output.past_key_values is None
    assert output.logits.shape == [1, 4, hub_model.config()["vocab_size"]] and output.logits.dtype == paddle.float32
    as_tuple = model(**given, labels=given["input_ids"], return_dict=False)
    assert len(as_tuple) == 3 and as_tuple[0].shape == []


# ---- the cache


def test_a_cache_changes_nothing(model):
    given = batch(list(ROWS.values()))
    output = model(**given, use_cache=True)
    close(output.logits.numpy(), model(**given).logits.numpy(), 1e-6)
    assert output.past_key_values.lengths.tolist() == [len(row.ids) for row in ROWS.values()]
    for i, row in enumerate(ROWS.values()):
        deltas = model(**batch([row])).rope_deltas
        assert output.past_key_values.next_positions[i].item() == deltas.item() + len(row.ids)


MORE = [[7], [8, 9, 10, 11], [12, 13], [], [14, 15, 16]]


def longer(row: Row, more: list[int]) -> Row:
    return Row([*row.ids, *more], row.images, row.videos, row.seconds)


def room_for(model, rows: list[Row], more: int):
    return model.allocate_cache(len(rows), max(len(row.ids) for row in rows) + more)


@pytest.mark.parametrize("side", ["left", "right"])
def test_going_on_with_several_tokens_at_once(model, side):
    """Rows of different lengths go on by different numbers of tokens, twice, and see all that was before."""
    rows, first, second = list(ROWS.values()), MORE, MORE[::-1]
    cache = room_for(model, rows, 8)
    model(**batch(rows, side), past_key_values=cache, use_cache=True)
    before = rows
    for more in (first, second):
        step = [Row(ids) for ids in more]
        after = [longer(row, ids) for row, ids in zip(before, more, strict=True)]
        output = model(**batch(step, side), past_key_values=cache)
        for row, ids, logits in zip(after, more, output.logits.numpy(), strict=True):
            if ids:
                real = logits[-len(ids) :] if side == "left" else logits[: len(ids)]
                close(real, model(**batch([row])).logits.numpy()[0][-len(ids) :])
        assert cache.lengths.tolist() == [len(row.ids) for row in after]
        before = after


def test_one_token_at_a_time_is_the_whole_text_at_once(model, hub_tensors):
    """Decoding against the literal model's full forward."""
    literal, rows = NumpyModel(hub_model.config(), hub_tensors), list(ROWS.values())
    cache = room_for(model, rows, 6)
    model(**batch(rows), past_key_values=cache)
    for step in range(6):
        tokens = [(step * 5 + i) % 250 + 1 for i in range(len(rows))]
        logits = model(paddle.to_tensor(tokens).unsqueeze(-1), past_key_values=cache).logits.numpy()[:, 0]
        rows = [longer(row, [token]) for row, token in zip(rows, tokens, strict=True)]
        if step in (0, 5):
            for row, found in zip(rows, logits, strict=True):
                close(found, literal_logits(literal, row)[-1])


def test_one_token_and_several_can_alternate(model):
    cache = room_for(model, [ONE_IMAGE], 9)
    model(**batch([ONE_IMAGE]), past_key_values=cache)
    row = ONE_IMAGE
    for more in ([5], [6, 7, 8], [9], [10, 11]):
        row = longer(row, more)
        logits = model(**batch([Row(more)]), past_key_values=cache).logits.numpy()[0]
        close(logits[-1], model(**batch([row])).logits.numpy()[0][-1])


def test_a_cache_that_is_full(model):
    output = model(**batch([TEXT, ONE_IMAGE]), use_cache=True)
    message = r"the cache has room for 20 tokens a row and 21 are needed: allocate_cache with a larger capacity"
    with pytest.raises(PromptError, match=message):
        model(paddle.to_tensor([[5], [6]]), past_key_values=output.past_key_values)
    with pytest.raises(PromptError, match=r"room for 3 tokens a row and 20 are needed"):
        model(**batch([TEXT, ONE_IMAGE]), past_key_values=model.allocate_cache(2, 3))
    step = batch([Row([5]), Row([])])
    model(**step, past_key_values=output.past_key_values)  # the shorter row still has room


def test_new_pictures_cannot_join_a_cache(model):
    cache = room_for(model, [TEXT], 30)
    model(**batch([TEXT]), past_key_values=cache)
    with pytest.raises(PromptError, match=r"all images and videos with the first call"):
        model(**batch([ONE_IMAGE]), past_key_values=cache)


# ---- narrow weights


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_narrow_weights(hub_folder, model, dtype, least):
    narrow = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder, dtype=dtype)
    given = batch(list(ROWS.values()))
    output = narrow(**given, use_cache=True)
    assert output.logits.dtype == paddle.float32
    assert str(output.past_key_values.cache.keys[0].dtype) == f"paddle.{dtype}"
    assert cosine(output.logits.numpy(), model(**given).logits.numpy()) > least
    ids, _ = narrow.generate(**given, max_new_tokens=3, do_sample=False)
    assert ids.shape[1] <= 3


def test_int8(hub_folder, model, tmp_path):
    small = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder, quantization="int8")
    given = batch(list(ROWS.values()))
    wanted, found = model(**given).logits.numpy(), small(**given).logits.numpy()
    assert cosine(found, wanted) > 0.995 and np.abs(found - wanted).max() > 0
    weights = {name: tensor.dtype for name, tensor in small.named_buffers() if name.endswith("weight")}
    assert set(weights.values()) == {paddle.int8}
    assert {"model.layers.1.self_attn.qkv_proj.weight", "lm_head.weight"} <= set(weights)
    tower = {name for name in weights if name.startswith("visual.")}
    assert tower == {f"visual.blocks.{i}.mlp.{part}_proj.weight" for i in range(3) for part in ("gate_up", "down")}
    ids, _ = small.generate(**given, max_new_tokens=4, do_sample=False)
    assert ids.shape[0] == len(ROWS)
    small.save_pretrained(tmp_path)
    again = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(**given).logits.numpy(), found)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_int8_of_a_tied_model(tmp_path, dtype):
    config = hub_model.config(tie_word_embeddings=True)
    folder = hub_model.write(tmp_path, config, hub_model.tensors(config))
    exact = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    small = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, quantization="int8", dtype=dtype)
    given = batch([TEXT, ONE_IMAGE])
    assert cosine(small(**given).logits.numpy(), exact(**given).logits.numpy()) > 0.995
    assert small.model.embed_tokens.weight is small.lm_head.weight and small.lm_head.weight.dtype == paddle.int8
    assert small(**given, use_cache=True).past_key_values.cache.keys[0].dtype == getattr(paddle, dtype)


# ---- bad input


@pytest.mark.parametrize("wrong", [-1, 99999])
def test_tokens_that_the_model_does_not_know(model, wrong):
    ids = paddle.to_tensor([[1, 2, wrong], [1, 2, 3]])
    with pytest.raises(PromptError, match=rf"tokens from .*{wrong}.* but the model knows 0 to \d+: use the tokenizer"):
        model(input_ids=ids)
    assert model(input_ids=ids, attention_mask=paddle.to_tensor([[1, 1, 0], [1, 1, 1]])).logits.shape[1] == 3


def test_more_patches_than_the_grids_say(model):
    given = batch([ONE_IMAGE])
    given["pixel_values"] = given["pixel_values"][:-4]
    with pytest.raises(MediaError, match=r"pixel_values holds 56 patches but the grids \[\[1, 6, 10\]\] need 60"):
        model(**given)


def test_features_and_placeholders_that_do_not_match(model):
    given = batch([ONE_IMAGE])
    positions, _ = model.get_rope_index(given["input_ids"], given["image_grid_thw"])
    one_less = given["input_ids"].clone()
    one_less[0, 2] = 5
    with pytest.raises(PromptError, match=r"the text has 14 image or video tokens but there are 15 features"):
        model(**{**given, "input_ids": one_less}, position_ids=positions)
    with pytest.raises(PromptError, match=r"needs 15 placeholder tokens in a row but the text has 14"):
        model(**{**given, "input_ids": one_less})


def test_pictures_and_placeholders_that_do_not_match(model):
    image, text = batch([ONE_IMAGE]), batch([TEXT])
    with pytest.raises(PromptError, match=r"more image placeholders than images"):
        model(image["input_ids"])
    media = {name: image[name] for name in ("pixel_values", "image_grid_thw")}
    with pytest.raises(PromptError, match=r"1 image\(s\) were given that the text has no placeholder for"):
        model(**text, **media)
    with pytest.raises(PromptError, match=r"more image placeholders than images"):
        model(**{**batch([ONE_IMAGE, ONE_IMAGE]), **media})


@pytest.mark.parametrize("missing", ["image_grid_thw", "pixel_values"])
def test_half_of_what_a_picture_needs(model, missing):
    given = batch([ONE_IMAGE])
    del given[missing]
    with pytest.raises(PromptError, match=r"pixel_values and image_grid_thw belong together"):
        model(**given)


def test_a_mask_of_another_shape(model):
    with pytest.raises(PromptError, match=r"attention_mask is \[1, 3\] but input_ids is \[1, 4\]"):
        model(paddle.to_tensor([TEXT.ids]), attention_mask=paddle.ones([1, 3], "int64"))


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)], ids=str)
def test_ids_that_are_no_batch(model, shape):
    for call in (model, model.generate):
        with pytest.raises(
            PromptError, match=rf"input_ids is int64 {re.escape(str(list(shape)))}: it must be int64 \[B, S\]"
        ):
            call(paddle.ones(shape, "int64"))


def test_ids_that_are_no_ids(model):
    with pytest.raises(PromptError, match=r"input_ids is float32 \[1, 3\]"):
        model(paddle.ones([1, 3]))
    ids = paddle.to_tensor([TEXT.ids])
    np.testing.assert_array_equal(model(ids.astype("int32")).logits.numpy(), model(ids).logits.numpy())


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_of_padding_alone(model, side):
    given = batch([TEXT, Row([]), CLIP], side)
    found = real_logits(model(**given).logits, [TEXT, Row([]), CLIP], side)
    close(found[0], model(**batch([TEXT])).logits.numpy()[0], 2e-5)
    with pytest.raises(PromptError, match=r"row 1 of the batch has no tokens"):
        model.generate(**given, max_new_tokens=2)


def test_a_model_from_a_config_has_everything_a_loaded_one_has():
    config = Qwen2_5_VLConfig(**hub_model.config())
    paddle.seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.eval()
    logits = model(**batch(list(ROWS.values()))).logits.numpy()
    assert np.isfinite(logits).all() and logits.std() > 0
    assert sum(p.numel().item() for p in model.parameters()) == sum(
        int(np.prod(shape)) for shape in hub_model.shapes(hub_model.config()).values()
    )


def test_half_a_layer_at_a_time_the_tower_is_the_same(model):
    grids = np.array([[1, 4, 6], [2, 8, 4]])
    patches = np.random.default_rng(0).standard_normal([24 + 64, model.config.vision_config.patch_dim])
    given = paddle.to_tensor(patches.astype(np.float32)), paddle.to_tensor(grids)
    with paddle.no_grad():
        *pieces, features = model.encoding(*given)
        assert pieces == [None] * 2 * model.config.vision_config.depth
        np.testing.assert_array_equal(features.numpy(), model.encode(*given).numpy())
