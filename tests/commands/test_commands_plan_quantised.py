"""The dry run of quantised checkpoints: bytes worked out from shapes, against loaded models, and of released ones."""

import hub_model
import pytest
import quantised_files as files
from typer.testing import CliRunner

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, cli
from paddlemix_qwenvl.commands.plan import config_of, plan_ranks

CONFIG = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"mrope_section": [2, 3, 3]},
    vision_config={"out_hidden_size": 64},
    torch_dtype="float16",
)


@pytest.mark.parametrize("method", files.QUANTISE)
def test_bytes_are_those_of_a_real_model(tmp_path, method):
    """Also where a part of a merged layer is not converted."""
    keys = {"awq": "modules_to_not_convert", "gptq": "dynamic"}
    kept = {"awq": ["q_proj"], "gptq": {"-:.*q_proj": {}}}.get(method, ["lm_head", "re:visual.*", "re:.*q_proj"])
    settings = {**files.METHODS[method], keys.get(method, "ignore"): kept}
    narrow, _ = files.converted(
        hub_model.tensors(CONFIG),
        files.QUANTISE[method],
        lambda module: files.in_decoder(module) and "q_proj" not in module,
    )
    folder = files.write(tmp_path, {**CONFIG, "quantization_config": settings}, narrow)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    held = {id(tensor): tensor for tensor in model.state_dict().values()}.values()
    (plan,) = plan_ranks(Qwen2_5_VLForConditionalGeneration, model.config, "float16", [1])
    assert plan.weight_bytes == sum(tensor.numel().item() * tensor.element_size() for tensor in held)


@pytest.mark.parametrize(
    ("size", "parameters", "layer", "layers", "degrees"),
    [
        ("3B-AWQ", 3_754_622_976, 2 * 2048**2 + 2 * 2048 * 256 + 3 * 2048 * 11008, 36, [1, 2, 4, 8, 16]),
        ("7B-AWQ", 8_292_166_656, 2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944, 28, [1, 2, 4]),
        (
            "72B-AWQ",
            73_410_777_344 + 80 * 3 * 8192 * 128,
            2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 29696,
            80,
            [1, 2, 4, 8, 16],
        ),
    ],
)
def test_released_awq_models(size, parameters, layer, layers, degrees):
    """Half a byte a number of the decoder's Linear layers, and three bytes a group of 128; two for each other number."""
    family, config = config_of(size)
    plans = plan_ranks(family.load("model"), config, config.dtype)
    assert [plan.degree for plan in plans] == degrees
    total = 2 * (parameters - layers * layer) + layers * layer * 67 // 128
    assert plans[0].weight_bytes == total
    for plan in plans:
        assert total / plan.degree <= plan.weight_bytes < 1.06 * total / plan.degree + 40e6


def test_a_released_name():
    result = CliRunner().invoke(cli.app, ["plan", "--model_path", "Qwen/Qwen2.5-VL-72B-Instruct-AWQ"])
    assert result.exit_code == 0 and "40.31 GiB" in result.stdout


def test_what_is_quantised_already_is_not_planned_otherwise():
    result = CliRunner().invoke(cli.app, ["plan", "--model_path", "7B-AWQ", "--quantization", "int8"])
    assert result.exit_code != 0 and "the weights are quantised already, by awq: leave it out" in result.stderr
