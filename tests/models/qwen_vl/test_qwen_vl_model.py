"""Weights in and out, training, caches, int8, tensor parallelism; numbers are compared with the original's in tests/reference."""

import json

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F
from reference.qwen_vl import qwen_vl_cases as cases
from safetensors.numpy import load_file, save_file
from test_parallel import Meeting, ThreadRank, on_all_ranks

from paddlemix_qwenvl import QWenLMHeadModel
from paddlemix_qwenvl.errors import CheckpointError, ParallelError, PromptError
from paddlemix_qwenvl.models.qwen_vl.language import logn_scale
from paddlemix_qwenvl.models.qwen_vl.positions import ntk_alpha
from paddlemix_qwenvl.models.qwen_vl.vision import bicubic, sincos_positions
from paddlemix_qwenvl.parallel import TensorParallel, using

EMBEDDINGS = ("wte.weight", "positional_embedding", "query", "pos_embed", "visual.proj")


@pytest.fixture(scope="module")
def inputs(tokenizer):
    """Two rows of different lengths, the longer one with a picture."""
    texts = ["the", "<img>street.png</img>the in"]
    return dict(tokenizer(texts, padding=True, return_tensors="pd"))


def logits(model, inputs):
    with paddle.no_grad():
        return model(**inputs).logits.numpy()


def write(folder, config, tensors, layout):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()},
        folder / "model.safetensors",
        {"format": layout},
    )
    return folder


def test_paddle_files_hold_linear_weights_turned(model, inputs, config, hub_tensors, tmp_path):
    turned = {
        name: value.T if value.ndim == 2 and not name.endswith(EMBEDDINGS) else value
        for name, value in hub_tensors.items()
    }
    square = [name for name in turned if turned[name] is not hub_tensors[name] and len(set(turned[name].shape)) == 1]
    assert len(square) == 3 + 3 + 1  # c_proj and out_proj of each layer, out_proj of the resampler
    again = QWenLMHeadModel.from_pretrained(write(tmp_path, config, turned, "np"), dtype="float32")
    for found, expected in zip(again.parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("language", ["transformer.llm.", "qwen."])
def test_paddlemix_has_names_of_its_own(model, config, hub_tensors, tmp_path, language):
    """As its QWenLMHeadModel keeps them: the tower beside the transformer, the language model and the blocks one level down;
    the language model in PaddleNLP's inference model is `qwen`."""
    inner = ("conv1", "positional_embedding", "ln_pre", "transformer")

    def upstream(name: str) -> str:
        if name.startswith("transformer.visual."):
            rest = name.removeprefix("transformer.visual.")
            return f"visual.vit.{rest}" if rest.startswith(inner) else f"visual.{rest}"
        return name.replace("transformer.", language, 1)

    renamed = {upstream(name): value for name, value in hub_tensors.items()}
    assert {"visual.vit.transformer.resblocks.0.mlp.c_fc.weight", "visual.attn_pool.query"} < renamed.keys()
    assert {f"{language}h.0.mlp.w1.weight", f"{language}ln_f.weight", "lm_head.weight"} < renamed.keys()
    again = QWenLMHeadModel.from_pretrained(write(tmp_path, config, renamed, "pt"), dtype="float32")
    for found, expected in zip(again.parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_what_is_saved_is_the_hubs(model, hub_tensors, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    saved = {name: value for file in files for name, value in load_file(file).items()}
    assert len(files) > 1 and saved.keys() == hub_tensors.keys()
    assert all((saved[name] == hub_tensors[name]).all() for name in saved)


def test_weights_that_do_not_fit(config, hub_tensors, tmp_path):
    less = {name: value for name, value in hub_tensors.items() if "kv_proj" not in name and "ln_pre.bias" not in name}
    with pytest.raises(CheckpointError, match=r"1 tensors missing \(transformer.visual.ln_pre.bias\)"):
        QWenLMHeadModel.from_pretrained(write(tmp_path, config, less, "pt"))


def test_ranks_together_are_the_whole_model(model, inputs, folder):
    meeting, models = Meeting(2), []
    for rank in range(2):
        with using(ThreadRank(rank, 2, meeting)):
            models.append(QWenLMHeadModel.from_pretrained(folder, dtype="float32"))
    expected = logits(model, inputs)
    for found in on_all_ranks(models, lambda split: logits(split, inputs)):
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_more_ranks_than_heads_of_the_resampler(folder):
    with using(TensorParallel(0, 4)), pytest.raises(ParallelError, match="2 heads of the vision tower cannot be split"):
        QWenLMHeadModel.from_pretrained(folder, dtype="float32")


@pytest.mark.parametrize(("dtype", "quantization", "tolerance"), [("bfloat16", None, 0.05), ("float32", "int8", 0.1)])
def test_narrow_weights(model, inputs, folder, dtype, quantization, tolerance):
    narrow = QWenLMHeadModel.from_pretrained(folder, dtype=dtype, quantization=quantization)
    expected = logits(model, inputs)
    assert np.abs(logits(narrow, inputs) - expected).max() / np.abs(expected).max() < tolerance


def test_pixels_in_the_call_are_those_read_from_the_paths(model, processor, inputs):
    given = processor(text=["the", "<img>street.png</img>the in"], return_tensors="pd")
    assert given["original_sizes"] == [(300, 200)]
    np.testing.assert_array_equal(logits(model, given), logits(model, inputs))


def test_a_prompt_in_two_calls(model, tokenizer):
    """The second goes on where the first one ended, past `seq_length`."""
    ids = paddle.to_tensor([tokenizer.ids("the river in an old town " * 4)])
    assert ids.shape[1] > 70 > model.config.seq_length > 60
    with paddle.no_grad():
        cache = model.allocate_cache(1, 70)
        found = [model(input_ids=ids[:, :60], past_key_values=cache).logits]
        assert cache.ntk_alpha == 1 and cache.next_positions.tolist() == [60]
        found.append(model(input_ids=ids[:, 60:65], past_key_values=cache).logits)
        found += [model(input_ids=ids[:, place : place + 1], past_key_values=cache).logits for place in range(65, 70)]
        found = paddle.concat(found, axis=1).numpy()
        model.config.use_dynamic_ntk = False  # the whole prompt would be over the border, and stretch the base
        try:
            expected = model(input_ids=ids[:, :70]).logits.numpy()
        finally:
            model.config.use_dynamic_ntk = True
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_loss_and_gradients(folder, inputs):
    model = QWenLMHeadModel.from_pretrained(folder, dtype="float32")
    model.train()
    labels = inputs["input_ids"].clone()
    labels[inputs["attention_mask"] == 0] = -100
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    assert 1 < float(loss) < 30
    frozen = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert frozen == ["transformer.visual.attn_pool.pos_embed"]


def test_generation_in_training_computes_what_training_does(folder, tokenizer):
    """Nothing is stretched or scaled past `seq_length`."""
    model, scores = QWenLMHeadModel.from_pretrained(folder, dtype="float32"), {}
    ids = paddle.to_tensor([tokenizer.ids("the river in an old town " * 4)])
    for mode in (model.train, model.eval):
        mode()
        token, score = model.generate(ids, max_new_tokens=1, do_sample=False, eos_token_id=[])
        with paddle.no_grad():
            wanted = paddle.nn.functional.log_softmax(model(input_ids=ids).logits[0, -1])
        assert int(token) == int(wanted.argmax())
        scores[mode.__name__] = float(score)
        assert float(score) == pytest.approx(float(wanted.max()), abs=1e-4)
    assert abs(scores["train"] - scores["eval"]) > 1e-3


def test_malformed_calls(model, inputs):
    with pytest.raises(PromptError, match="give them one shape"):
        model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"][:, 1:])
    with pytest.raises(PromptError, match="input_ids"):
        model.generate()


@pytest.mark.parametrize(("length", "alpha"), [(1, 1), (64, 1), (65, 3), (128, 3), (129, 7), (256, 7), (257, 15)])
def test_ntk_alpha(length, alpha):
    assert ntk_alpha(length, 64) == alpha


def test_logn_scale():
    scale = logn_scale(paddle.to_tensor([0, 63, 64, 4095]), 64).flatten().numpy()
    np.testing.assert_allclose(scale, [1, 1, np.log(65) / np.log(64), 2], rtol=1e-6)


def test_sincos_positions_are_written_out():
    table = sincos_positions(16, 3)
    for row in range(3):
        for column in range(3):
            expected = []
            for place in (column, row):
                angles = [place / 10000 ** (i / 4) for i in range(4)]
                expected += [np.sin(angle) for angle in angles] + [np.cos(angle) for angle in angles]
            np.testing.assert_allclose(table[row * 3 + column], expected, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(16, 16), (16, 32), (16, 8), (16, 18), (4, 7), (5, 3)])
def test_bicubic(before, after):
    """Paddle's own interpolation is written after the same rule; to the same size it changes nothing."""
    square = np.random.default_rng(0).standard_normal([1, 3, before, before], np.float32)
    expected = F.interpolate(paddle.to_tensor(square), size=[after, after], mode="bicubic", align_corners=False).numpy()
    found = square.reshape([3, -1]) @ bicubic(before, after).T
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


def test_a_new_model_starts_with_sincos_positions():
    from paddlemix_qwenvl import QWenVLConfig

    model = QWenLMHeadModel(QWenVLConfig(**cases.config()))
    found = model.transformer.visual.attn_pool.pos_embed.numpy()
    np.testing.assert_array_equal(found, sincos_positions(128, 16))


@pytest.mark.parametrize("kind", [None, "np"])
def test_what_the_processor_was_not_asked_to_make_tensors(model, processor, kind):
    inputs = processor(text=["the", "<img>street.png</img>the in"], return_tensors=kind)
    for call in (model.generate, model):
        with pytest.raises(PromptError, match=r'input_ids is a .*, not a tensor .*return_tensors="pd"'):
            call(**inputs)


def test_half_a_layer_at_a_time_the_tower_is_the_same(model):
    visual = model.config.visual
    images = np.random.default_rng(0).standard_normal([2, 3, *[visual["image_size"]] * 2]).astype(np.float32)
    with paddle.no_grad():
        *pieces, features = model.encoding(paddle.to_tensor(images))
        assert pieces == [None] * 2 * visual["layers"]
        np.testing.assert_array_equal(features.numpy(), model.encode(paddle.to_tensor(images)).numpy())
