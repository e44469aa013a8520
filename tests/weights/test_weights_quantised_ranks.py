"""Quantised checkpoints split over ranks that are threads of one process."""

from operator import attrgetter

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files
from cpu_paths import assert_split_alike, split_error
from test_parallel import on_all_ranks, split_model

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import ParallelError
from paddlemix_qwenvl.layers.formats import Int4
from paddlemix_qwenvl.parallel import TensorParallel, using

CONFIG = hub_model.config(
    hidden_size=128,
    intermediate_size=160,
    num_attention_heads=4,
    rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
    vision_config={"out_hidden_size": 128, "num_heads": 4},
)


def write(folder, method: dict, quantise, config: dict = CONFIG):
    narrow, _ = files.converted(hub_model.tensors(config), quantise, files.in_decoder)
    return files.write(folder, {**config, "quantization_config": method}, narrow)


@pytest.mark.parametrize("method", files.QUANTISE)
@pytest.mark.parametrize("degree", [2, 4])
def test_ranks_hold_whole_groups(tmp_path, method, degree):
    """Five groups of the MLP's inner width: 3 and 2, or 2, 1, 1 and 1."""
    folder = write(tmp_path, files.METHODS[method], files.QUANTISE[method])
    ids = paddle.to_tensor([[5, 77, 200, 31, 8]])
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    wanted = whole(ids).logits.numpy()
    error = split_error(whole, method if method in ("int8", "fp8") else "int4", ids.shape[1], wanted)
    models = split_model(folder, degree)
    if method in ("awq", "gptq", "packed"):
        widths = [2 * model.model.layers[0].mlp.down_proj.weight.shape[1] for model in models]
        assert widths == {2: [96, 64], 4: [64, 32, 32, 32]}[degree]
    for logits in on_all_ranks(models, lambda model: model(ids).logits.numpy()):
        assert_split_alike(logits, wanted, error)


@pytest.mark.parametrize(
    ("fields", "config", "fit"),
    [
        ({}, {"num_attention_heads": 8, "intermediate_size": 256}, "1 or 2 or 4"),  # heads of 16, groups of 32
        ({"bits": 8}, {"num_attention_heads": 8, "intermediate_size": 256}, "1 or 2 or 4"),
    ],
)
def test_degrees_that_do_not_fit_are_refused_with_those_that_do(tmp_path, fields, config, fit):
    vision = {**CONFIG["vision_config"], "num_heads": 8}
    config = {**CONFIG, **config, "rope_scaling": {"mrope_section": None}, "vision_config": vision}
    folder = write(tmp_path, {**files.METHODS["gptq"], **fields}, files.QUANTISE["gptq"], config)
    with (
        using(TensorParallel(0, 8)),
        pytest.raises(ParallelError, match=rf"_proj cannot be split over 8 ranks: .* Start {fit} ranks\."),
    ):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)


def test_one_group_of_all_inputs_is_split_anywhere(tmp_path):
    folder = write(tmp_path, {**files.METHODS["awq"], "group_size": -1}, lambda name, w: files.awq(w, w.shape[1]))
    ids = paddle.to_tensor([[5, 77, 200, 31, 8]])
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    wanted = whole(ids).logits.numpy()
    models = split_model(folder, 2)
    assert models[0].model.layers[0].self_attn.o_proj.format == Int4(64, has_zeros=True)
    for logits in on_all_ranks(models, lambda model: model(ids).logits.numpy()):
        assert_split_alike(logits, wanted, split_error(whole, "int4", ids.shape[1], wanted))


ORDERED = {
    "gptq": ({"desc_act": True}, {}),
    "gptq, zeros": ({"desc_act": True, "sym": False}, {"symmetric": False}),
    "gptq, 8 bits": ({"desc_act": True, "bits": 8}, {"bits": 8}),
    "packed": ({}, {"symmetric": False}),
}


def weight_of(layer, width: int) -> np.ndarray:
    """What a gathered weight of `width` inputs is worth, `[out, in]`: each of its columns added where its input is."""
    if layer.format.name == "int8":
        blocks = [block.weight.numpy() * block.scale.numpy()[:, None] for block in layer.blocks]
        values = np.concatenate(blocks, axis=1)
    else:
        packed = layer.weight.numpy().astype(int)
        numbers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
        zeros = layer.zeros.numpy().astype(int) if layer.format.inner.has_zeros else np.full(layer.scale.shape, 8)
        values = (numbers - zeros.repeat(32, 1)) * layer.scale.numpy().astype(np.float32).repeat(32, 1)
    found = np.zeros((len(values), width), np.float32)
    np.add.at(found, (slice(None), layer.inputs.numpy()), values)
    return found


@pytest.mark.parametrize("case", ORDERED)
@pytest.mark.parametrize("degree", [2, 4])
def test_columns_that_activations_dealt_out(tmp_path, case, degree):
    """A rank has parts of every group: each is filled up by columns that count for nothing, so that ranks add up exactly."""
    fields, how = ORDERED[case]
    draws, made = np.random.default_rng(5), {}

    def quantise(name, weight):
        order = draws.permutation(weight.shape[1])
        tensors, made[name] = (files.packed if case == "packed" else files.gptq)(weight, 32, act_order=order, **how)
        return tensors, made[name]

    method = files.METHODS["packed" if case == "packed" else "gptq"]
    if case == "packed":
        group = method["config_groups"]["group_0"]
        weights = {**group["weights"], "actorder": "group", "symmetric": False}
        fields = {"config_groups": {"group_0": {**group, "weights": weights}}}
    folder = write(tmp_path, {**method, **fields}, quantise)
    ids = paddle.to_tensor([[5, 77, 200, 31, 8]])
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    wanted = whole(ids).logits.numpy()
    models = split_model(folder, degree)
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        layers = [attrgetter(name)(model.model.layers[1]) for model in models]
        widths = [layer.pieces[0].source[1].stop - layer.pieces[0].source[1].start for layer in layers]
        weights = [weight_of(layer, width) for layer, width in zip(layers, widths, strict=True)]
        np.testing.assert_array_equal(np.concatenate(weights, axis=1), made[f"model.layers.1.{name}"])
    error = split_error(whole, "int8" if "8 bits" in case else "int4", ids.shape[1], wanted)
    for logits in on_all_ranks(models, lambda model: model(ids).logits.numpy()):
        assert_split_alike(logits, wanted, error)
