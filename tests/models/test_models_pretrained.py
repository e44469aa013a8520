"""Which layers `quantization` holds in which format."""

import hub_model
import pytest
from reference.qwen_vl import qwen_vl_cases

import paddlemix_qwenvl

CONFIGS = {
    "Qwen2_5_VLForConditionalGeneration": hub_model.config(),
    "Qwen2VLForConditionalGeneration": hub_model.qwen2_vl_config(),
    "QWenLMHeadModel": qwen_vl_cases.CONFIGS["wide"],
}


@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_formats(kind, quantization):
    """Of the tower the MLPs alone, beside int4 all but its convolutions, in int8 as the head."""
    make = getattr(paddlemix_qwenvl, kind)
    model = make(make.config_class(**CONFIGS[kind]))
    chosen = {id(layer): name for layer, name in model.quantizable(quantization).items()}
    formats = {name: chosen[id(layer)] for name, layer in model.named_sublayers() if id(layer) in chosen}
    head, beside = formats.pop("lm_head"), "int8" if quantization == "int4" else quantization
    tower = {name: each for name, each in formats.items() if "visual" in name}
    assert head == beside and {*tower.values()} == {beside}
    language = [each for name, each in formats.items() if name not in tower]
    assert language == [quantization] * 4 * model.decoder.depth
    assert any(".attn." in name for name in tower) == (quantization == "int4")
    assert not any("patch_embed" in name or "conv1" in name for name in tower)
