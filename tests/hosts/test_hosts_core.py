"""Our own classes against PaddleNLP's kind of them: the same ids, texts, arrays and files."""

import copy
import pickle

import hub_model
import numpy as np
import pytest
import qwen_vl_model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reference.qwen_vl import qwen_vl_cases

from paddlemix_qwenvl.hosts import paddlenlp
from paddlemix_qwenvl.models.family import family_named

TEXTS = ["the", "", "  a \n\n b\t", "I'll 图片 é e\u0301 🟥", "<|im_start|>user\nx<|im_end|><|image_pad|>", "a " * 40]
OPTIONS = [
    {"padding": True},
    {"padding": "max_length", "max_length": 50},
    {"padding": True, "padding_side": "right"},
    {"padding": True, "pad_to_multiple_of": 8},
    {"truncation": True, "max_length": 3, "padding": True},
    {"return_token_type_ids": True},
    {"return_attention_mask": True, "padding": True},
]


@pytest.fixture(scope="session")
def folders(hub_folder, tmp_path_factory):
    qwen_vl = tmp_path_factory.mktemp("qwen_vl")
    qwen_vl_model.write(qwen_vl, qwen_vl_cases.CONFIGS["wide"], {})
    return {"qwen2_5_vl": hub_folder, "qwen_vl": qwen_vl}


@pytest.fixture(scope="session")
def kinds(folders):
    """Ours and PaddleNLP's kind of a family's processor."""

    def load(name):
        core = family_named(name).load("processor")
        return [each.from_pretrained(folders[name]) for each in (core, paddlenlp.adapt(core))]

    return {name: load(name) for name in folders}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_tokenizer_s_call(kinds, family, options):
    ours, hosts = (processor.tokenizer for processor in kinds[family])
    mine, theirs = ours(TEXTS, **options), hosts(TEXTS, **options)
    assert mine["input_ids"] == theirs["input_ids"]
    for name in set(mine) & set(theirs):
        assert mine[name] == theirs[name], name
    assert ours(TEXTS[3])["input_ids"] == hosts(TEXTS[3])["input_ids"]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_there_and_back(kinds, family, text):
    ours, hosts = (processor.tokenizer for processor in kinds[family])
    if any("\ud800" <= character <= "\udfff" for character in text):
        return
    ids = ours.encode(text)
    assert ids == hosts(text)["input_ids"]
    for skip in (False, True):
        assert ours.decode(ids, skip_special_tokens=skip) == hosts.decode(ids, skip_special_tokens=skip)
        assert (
            ours.batch_decode([ids, ids], skip_special_tokens=skip) == [hosts.decode(ids, skip_special_tokens=skip)] * 2
        )


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
def test_what_a_tokenizer_says_of_itself(kinds, family):
    ours, hosts = (processor.tokenizer for processor in kinds[family])
    for name in ("eos_token", "pad_token", "eos_token_id", "pad_token_id", "padding_side"):
        assert getattr(ours, name) == getattr(hosts, name), name
    tokens = ["<|endoftext|>", "<|im_end|>", "the"]
    assert ours.convert_tokens_to_ids(tokens[:2]) == hosts.convert_tokens_to_ids(tokens[:2])


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
def test_a_processor_s_arrays(kinds, family):
    pictures = [Image.effect_noise(size, 60).convert("RGB") for size in ((70, 50), (33, 120))]
    conversations = [
        [
            {
                "role": "user",
                "content": [*({"type": "image", "image": each} for each in shown), {"type": "text", "text": "the?"}],
            }
        ]
        for shown in (pictures, pictures[:1], [])
    ]
    found = []
    for processor in kinds[family]:
        texts = [processor.apply_chat_template(one, add_generation_prompt=True) for one in conversations]
        images, _ = processor.fetch_media(conversations)
        found.append(dict(processor(text=texts, images=images, return_tensors="np")))
    mine, theirs = found
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen_vl"])
def test_files_of_ours_are_read_by_the_host_s_kind_and_back(kinds, family, tmp_path):
    ours, hosts = kinds[family]
    core = family_named(family).load("processor")
    ours.save_pretrained(tmp_path / "ours")
    hosts.save_pretrained(tmp_path / "hosts")
    for folder, kind in (("ours", paddlenlp.adapt(core)), ("hosts", core), ("ours", core)):
        again = kind.from_pretrained(tmp_path / folder)
        assert again.tokenizer(TEXTS)["input_ids"] == ours.tokenizer(TEXTS)["input_ids"]
        message = [{"role": "user", "content": "the"}]
        assert again.apply_chat_template(message) == ours.apply_chat_template(message)


def test_copies_and_pickles(kinds, folders):
    for family, (ours, hosts) in kinds.items():
        config = family_named(family).load("config").from_pretrained(folders[family])
        for one in (config, paddlenlp.adapt(type(config)).from_pretrained(folders[family])):
            assert copy.deepcopy(one) == one and pickle.loads(pickle.dumps(one)) == one
            assert type(pickle.loads(pickle.dumps(one))) is type(one)
        for processor in (ours, hosts):
            ids = processor.tokenizer("the")["input_ids"]
            assert copy.deepcopy(processor.tokenizer)("the")["input_ids"] == ids


def test_configs_say_the_same(folders):
    for family, folder in folders.items():
        core = family_named(family).load("config")
        ours, hosts = core.from_pretrained(folder), paddlenlp.adapt(core).from_pretrained(folder)
        mine, theirs = ours.to_dict(), hosts.to_dict()
        assert "dtype" not in mine and "dtype" not in theirs
        for name in core.field_names() & mine.keys() & theirs.keys():
            assert mine[name] == theirs[name], name
        assert core(**{name: mine[name] for name in mine.keys() - {"model_type"}}).to_dict() == mine


def test_a_model_s_numbers(hub_folder, kinds):
    import paddle

    from paddlemix_qwenvl.engine.generate import generating

    core = family_named("qwen2_5_vl").load("model")
    ours, hosts = (kind.from_pretrained(hub_folder) for kind in (generating(core), paddlenlp.adapt(core)))
    processor = kinds["qwen2_5_vl"][0]
    inputs = processor(text=["the the", "the"], return_tensors="pd")
    assert (ours(**inputs).logits == hosts(**inputs).logits).all()
    loss = [model(**inputs, labels=inputs["input_ids"], return_dict=False)[0] for model in (ours, hosts)]
    assert float(loss[0]) == float(loss[1])
    for settings_ in ({"do_sample": False}, {"do_sample": True, "seed": 3}, {"num_beams": 3, "do_sample": False}):
        (mine, score), (theirs, other) = (
            model.generate(**inputs, max_new_tokens=6, **settings_) for model in (ours, hosts)
        )
        assert mine.tolist() == theirs.tolist() and paddle.allclose(score, other)


def test_an_engine_takes_what_the_model_packs(hub_folder, kinds):
    """`positions.prompts` against the dynamic model's own packing of a padded batch with pictures."""
    family = family_named("qwen2_5_vl")
    model = family.load("model").from_pretrained(hub_folder)
    processor = kinds["qwen2_5_vl"][0]
    pictures = [Image.effect_noise(size, 60).convert("RGB") for size in ((70, 50), (33, 120))]
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    for side in ("left", "right"):
        how = {"text": [f"the {mark}{mark} the", "the"], "images": pictures, "padding_side": side}
        inputs = processor(**how, return_tensors="pd")
        packed = model.pack(**{name: inputs[name] for name in model.prompt_inputs if name in inputs})
        prompts = family.module("positions").prompts(model.config, processor(**how, return_tensors="np"))
        positions = np.concatenate([prompt.position_ids for prompt in prompts], axis=1)
        np.testing.assert_array_equal(positions, packed.position_ids.numpy())
        lengths = [len(prompt.token_ids) for prompt in prompts]
        np.testing.assert_array_equal(np.cumsum([0, *lengths]), packed.cu_seqlens.numpy())
        after = packed.rope_deltas.numpy()[:, 0] + packed.shape[1]
        assert [prompt.next_position for prompt in prompts] == after.tolist()
        assert [len(prompt.media) for prompt in prompts] == [2, 0]
        for prompt in prompts:
            is_pad = prompt.token_ids == hub_model.IDS["<|image_pad|>"]
            places = np.concatenate([np.array([], np.int64), *(media.places for media in prompt.media)])
            np.testing.assert_array_equal(places, np.flatnonzero(is_pad))
