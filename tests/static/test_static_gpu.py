"""Graphs made for a GPU, through the stand-in card: they hold nothing of the CPU's and answer as the dynamic model does there."""

import hub_model
import pytest
from gpu_counts import counting
from gpu_stand_in import card
from paddle import inference

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, ops
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.errors import DeployError
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export
from paddlemix_qwenvl.static.manifest import LANGUAGE, Manifest

load = Qwen2_5_VLForConditionalGeneration.from_pretrained
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "repetition_penalty": 1.1}


def quiet(line: str) -> None:
    """In place of progress lines."""


@pytest.fixture(scope="module")
def flash_folder(tmp_path_factory):
    """With heads of a size that flash attention takes."""
    folder = tmp_path_factory.mktemp("hub")
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = hub_model.config(hidden_size=64, rope_scaling=rope, vision_config={"out_hidden_size": 64})
    hub_model.write(folder, config, hub_model.tensors(config))
    return hub_model.write_processor(folder)


@pytest.fixture(scope="module")
def batch(noise):
    picture = {"type": "image", "image": noise(90, 60, 0)}
    texts = [[{"type": "text", "text": "Hi"}], [picture, {"type": "text", "text": "What is this?"}]]
    return [[{"role": "user", "content": content}] for content in texts]


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_graphs_of_a_gpu(hub_folder, processor, batch, tmp_path, quantization):
    """Those with int8 weights are for cards of one kind, as the weights lie in the order that its kernel wants."""
    folder = tmp_path / "export"
    with card((8, 0)) as patch:
        model = load(hub_folder, dtype="bfloat16", quantization=quantization)
        manifest = export(model, processor, folder, say=quiet)
        assert (manifest.device, manifest.compiled_ops) == ("gpu", [])
        assert not any("custom_op" in path.read_text() for path in folder.glob("*e.json"))
        deleted = []
        patch.setattr(inference.Config, "delete_pass", lambda config, name: deleted.append(name))
        predictor = load_export(folder)
        assert deleted == ["fused_weight_only_linear_pass"] * 2
        inputs = processor.apply_chat_template(batch, add_generation_prompt=True, tokenize=True, return_tensors="pd")
        found = [answer.token_ids for answer in predictor.answer_all(batch, **GREEDY)]
        assert found == model.generate(**inputs, **GREEDY)[0].tolist()
    with pytest.raises(DeployError, match="exported for gpu and would run on cpu"):
        load_export(folder)
    with card((8, 6)):
        if quantization is None:
            load_export(folder)
            return
        message = "int8 weights were arranged for compute capability 8.0 and would run on 8.6: export again"
        with pytest.raises(DeployError, match=message):
            load_export(folder)


@pytest.mark.parametrize("capability, by_flash", [((8, 0), True), ((7, 5), False)])
def test_attention_in_graphs(flash_folder, processor, tmp_path, capability, by_flash):
    """Flash attention in every block of the tower and every layer of prompts, where the card has it; one kernel for decoding."""
    with card(capability, kernels=True):
        model = load(flash_folder, dtype="float16")
        ops.status()
        with counting() as counts:
            export(model, processor, tmp_path / "export", say=quiet)
    blocks, layers = len(model.visual.blocks), model.decoder.depth
    assert counts.played["flash_attn_unpadded"] == by_flash * (blocks + layers)
    assert counts.played["variable_length_memory_efficient_attention"] == (not by_flash) * blocks
    assert counts.played["cached_attention"] == (not by_flash) * layers
    assert counts.played["qkv_decode_attention"] == layers


@pytest.mark.parametrize("kernels", [True, False])
def test_prompts_by_flash_attention(flash_folder, processor, tmp_path, kernels):
    """In one piece, and in parts beside single tokens of other rows: to the last bit what layers make of them."""
    words = ["Hi", "What is the colour of the third shape from the left?", "Count them all."]
    batch = [[{"role": "user", "content": each}] for each in words]
    with card((8, 0), kernels=kernels):
        model = load(flash_folder, dtype="bfloat16")
        export(model, processor, tmp_path / "export", say=quiet)
        predictor = load_export(tmp_path / "export")
        inputs = processor.apply_chat_template(batch, add_generation_prompt=True, tokenize=True, return_tensors="pd")
        expected = model.generate(**inputs, **GREEDY)[0].tolist()
        for most in (512, 16):
            predictor.engine = Engine(predictor.runner, 64, max_num_batched_tokens=most)
            assert [answer.token_ids for answer in predictor.answer_all(batch, **GREEDY)] == expected


def test_qwen_vl(qwen_vl, noise, tmp_path):
    """Whose rotary base stretches with the prompt, and whose queries grow with their places."""
    model, processor = qwen_vl
    text, picture = "in <img>b</img> an er the in an er", noise(60, 90, 1)
    inputs = processor(text=[text], images=[picture], padding=True, return_tensors="pd")
    expected = model.generate(**inputs, **GREEDY)[0][0].tolist()
    with card((8, 0), kernels=True):
        export(model, processor, tmp_path / "export", say=quiet)
        answer = load_export(tmp_path / "export").complete(text, [picture], **GREEDY)
    assert answer.token_ids == expected


def test_copies_of_a_step(flash_folder, processor, tmp_path):
    """One to the card for the graph and one for the draw; back come the tokens and their probabilities."""
    with card((8, 0), kernels=True):
        export(load(flash_folder, dtype="bfloat16"), processor, tmp_path / "export", say=quiet)
        predictor = load_export(tmp_path / "export")
        predictor.ask("Hi", **GREEDY)
        with counting() as counts:
            answer = predictor.ask("Hi", **GREEDY)
    step = ["blocking upload"] * 2 + ["blocking download"] * 2
    assert counts.log == step * len(answer.token_ids)


@pytest.mark.parametrize("capability, recorded", [((7, 0), "7.0"), ((12, 0), None)])
def test_int8_in_float16(flash_folder, processor, tmp_path, capability, recorded):
    """It is traced and not run: Paddle's CPU build misses kernels. Weights that lie row by row are for any card."""
    with card(capability):
        model = load(flash_folder, dtype="float16", quantization="int8")
        export(model, processor, tmp_path / "export", (LANGUAGE,), say=quiet)
    manifest = Manifest.read(tmp_path / "export")
    assert (manifest.capability, manifest.compiled_ops) == (recorded, [])
