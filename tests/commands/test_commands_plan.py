"""The dry run: bytes worked out from shapes, against shapes listed by hand, real models, and what the command prints."""

import hub_model
import numpy as np
import pytest
from reference.qwen_vl import qwen_vl_cases
from typer.testing import CliRunner

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, cli
from paddlemix_qwenvl.commands.plan import RankPlan, config_of, plan_ranks, table
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.models.family import families


def plans_of(config: Qwen2_5_VLConfig, dtype: str = "bfloat16", **given) -> dict[int, RankPlan]:
    plans = plan_ranks(Qwen2_5_VLForConditionalGeneration, config, dtype, **given)
    return {plan.degree: plan for plan in plans}


@pytest.fixture(scope="module")
def released() -> dict[str, dict[int, RankPlan]]:
    return {size: plans_of(Qwen2_5_VLConfig.of_size(size)) for size in ("3B", "7B", "32B", "72B")}


@pytest.mark.parametrize(
    ("size", "parameters", "degrees"),
    [
        ("3B", 3_754_622_976, [1, 2, 4, 8, 16]),
        ("7B", 8_292_166_656, [1, 2, 4]),
        ("32B", 33_452_718_336, [1, 2, 4, 8]),
        ("72B", 73_410_777_344, [1, 2, 4, 8, 16]),
    ],
)
def test_released_models(released, size, parameters, degrees):
    """The Hub's numbers of parameters, and all degrees that divide the heads."""
    plans = released[size]
    assert list(plans) == degrees
    assert plans[1].weight_bytes == 2 * parameters
    for degree, plan in plans.items():
        share = 2 * parameters / degree
        assert share <= plan.weight_bytes < 1.03 * share + 40e6  # repeated: key-value heads, norms, the patch embedding


@pytest.mark.parametrize(
    ("size", "numbers"),
    [
        ("3B", [36, 18, 18, 18, 18]),
        ("7B", [56, 28, 14]),
        ("32B", [256, 128, 64, 32]),
        ("72B", [320, 160, 80, 40, 40]),
    ],
)
def test_caches_of_released_models(released, size, numbers):
    """KiB a token: layers x 2 x heads on the rank x 128 x 2 bytes. From some degree on several ranks hold the same head."""
    assert [plan.cache_bytes_per_token / 1024 for plan in released[size].values()] == numbers


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_bytes_are_those_of_a_real_model(model, hub_tensors, dtype, width):
    plan = plans_of(model.config, dtype)[1]
    assert plan.weight_bytes == width * sum(value.size for value in hub_tensors.values())
    cache = KVCache.allocate(num_blocks=1, block_size=7, **model.cache_sizes())
    assert plan.cache_bytes_per_token * 7 == width * sum(int(np.prod(t.shape)) for t in cache.keys + cache.values)


def test_a_whole_vision_tower_counts_on_every_rank(hub_tensors):
    """All of it but the patch embedding, which "tensor" keeps whole too."""
    visual = {name: value.size for name, value in hub_tensors.items() if name.startswith("visual.")}
    added = sum(visual.values()) - visual["visual.patch_embed.proj.weight"]
    given = hub_model.config()
    split = plans_of(Qwen2_5_VLConfig(**given), degrees=[2])[2]
    whole = plans_of(Qwen2_5_VLConfig(**given, vision_parallel="data"), degrees=[2])[2]
    assert whole.weight_bytes - split.weight_bytes == pytest.approx(2 * added / 2, rel=0.03)


def test_degrees_that_cannot_be_are_left_out():
    given = hub_model.config(vision_config={"num_heads": 2})
    assert list(plans_of(Qwen2_5_VLConfig(**given))) == [1, 2]  # 4 heads, but 2 in the vision tower
    assert list(plans_of(Qwen2_5_VLConfig(**given, vision_parallel="data"))) == [1, 2, 4]


def test_the_cache_leaves_a_tenth_of_the_card():
    plan = RankPlan(degree=1, weight_bytes=2**30, cache_bytes_per_token=2**10)
    assert plan.blocks(card_gib=2, block_size=32) == int(0.8 * 2**20) // 32
    assert plan.blocks(card_gib=1, block_size=32) == 0
    line = table([plan], card_gib=2, block_size=32, context=1000)[1]
    assert line.split() == ["1", "1.00", "GiB", "0.98", "MiB", "838848", "26214", "1000"]


def test_table_and_command_agree(released):
    lines = table(list(released["72B"].values()), card_gib=80, block_size=BLOCK_SIZE, context=128000)
    result = CliRunner().invoke(cli.app, ["infer", "--model_path", "72B", "--dry_run"])
    assert result.exit_code == 0 and result.stdout.splitlines() == lines
    words = [" ".join(line.split()) for line in lines]
    assert words[0] == f"mp_degree weights a rank cache of 1000 tokens tokens on 80 GiB blocks of {BLOCK_SIZE} context"
    assert words[1] == "1 136.74 GiB 312.50 MiB does not fit 0 0"
    blocks = released["72B"][8].blocks(80, BLOCK_SIZE)
    assert words[4] == f"8 17.10 GiB 39.06 MiB {blocks * BLOCK_SIZE} {blocks} 128000"


def test_an_unknown_dtype():
    with pytest.raises(ConfigurationError, match="dtype is 'int4': it must be one of float32, float16, bfloat16"):
        plans_of(Qwen2_5_VLConfig(**hub_model.config()), "int4")


def test_qwen_vl_from_its_folder(tmp_path):
    config = qwen_vl_cases.CONFIGS["wide"]
    hub_model.write_config(tmp_path, config)
    result = CliRunner().invoke(cli.app, ["infer", "--model_path", str(tmp_path), "--dry_run", "--dtype", "float32"])
    words = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in words[1:]] == ["1", "2"]  # the resampler has two heads
    weights = 4 * sum(int(np.prod(shape)) for shape in qwen_vl_cases.shapes(config).values())
    assert words[1][1] == f"{weights / 2**30:.2f}" and words[1][3] == f"{1000 * 6 / 1024:.2f}"


def test_another_family(tmp_path):
    hub_model.write_config(tmp_path, {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    result = CliRunner().invoke(cli.app, ["infer", "--model_path", str(tmp_path), "--dry_run"])
    assert (
        result.exit_code == 1 and 'says model_type "llama", which this package does not have: it loads' in result.stderr
    )


def test_the_command_plan_is_infer_s_dry_run():
    options = ["--model_path", "7B", "--quantization", "int8", "--card_gib", "24"]
    planned, tried = (CliRunner().invoke(cli.app, [*words, *options]) for words in (["plan"], ["infer", "--dry_run"]))
    assert planned.exit_code == 0 and planned.stdout == tried.stdout
    assert "tokens on 24 GiB" in planned.stdout.splitlines()[0]


def test_every_size_of_every_family_is_known():
    for family in families():
        for size in family.sizes:
            found, config = config_of(size)
            assert size in found.sizes and isinstance(config, found.load("config")) and config.dtype == "bfloat16"
    assert config_of("Qwen/Qwen2.5-VL-72B-Instruct")[1].num_hidden_layers == 80
    with pytest.raises(ConfigurationError, match="source"):
        config_of("Qwen/Qwen2.5-VL-1B-Instruct", source="nowhere")
