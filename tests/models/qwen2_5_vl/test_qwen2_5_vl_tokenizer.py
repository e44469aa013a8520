"""The tokenizer as the host's, from files of every kind: loading, calls, templates, saving."""

import json

import hub_model
import numpy as np
import pytest
from tokenizers import Tokenizer

from paddlemix_qwenvl import Qwen2_5_VLTokenizer
from paddlemix_qwenvl.errors import ConfigurationError, PromptError

IDS = hub_model.IDS
MESSAGES = [{"role": "user", "content": "the 图"}]


@pytest.fixture
def folder(tokenizer_folder):
    return tokenizer_folder


@pytest.fixture(scope="module")
def tokenizer(hub_folder):
    return Qwen2_5_VLTokenizer.from_pretrained(hub_folder)


def configure(folder, **fields) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def test_settings_of_the_folder_and_of_loading(folder):
    configure(folder, padding_side="right", truncation_side="left", clean_up_tokenization_spaces=True)
    found = Qwen2_5_VLTokenizer.from_pretrained(folder)
    assert (found.padding_side, found.truncation_side) == ("right", "left")
    assert found(["a", "ab"], padding=True)["input_ids"][0] == [97, IDS["<|endoftext|>"]]
    assert (
        found.decode(list(b"a .")) == "a." and found.decode(list(b"a ."), clean_up_tokenization_spaces=False) == "a ."
    )
    given = {"padding_side": "left", "eos_token": "<|endoftext|>", "model_max_length": 9, "use_fast": False}
    found = Qwen2_5_VLTokenizer.from_pretrained(folder, **given, truncation_side=None)
    assert (found.padding_side, found.eos_token, found.model_max_length) == ("left", "<|endoftext|>", 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"padding_sid": "left"}, r"'padding_sid' is no setting of the tokenizer \(did you mean 'padding_side'\?\)"),
        ({"padding_side": "up"}, 'from_pretrained: padding_side is "up"'),
        ({"eos_token": "</s>"}, 'eos_token is "</s>", expected a token of the vocabulary'),
    ],
)
def test_settings_of_loading_that_cannot_be(folder, given, message):
    with pytest.raises(ConfigurationError, match=message):
        Qwen2_5_VLTokenizer.from_pretrained(folder, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_lenght": 3}, r"'max_lenght' is no setting of the tokenizer's call \(did you mean 'max_length'\?\)"),
        ({"padding": "most"}, "padding"),
        ({"padding_side": "up"}, 'padding_side is "up"'),
        ({"max_length": 0}, "max_length is 0"),
        ({"truncation": 5}, "truncation is 5"),
        ({"return_tensors": "pt"}, 'return_tensors is "pt"'),
        ({"truncation": True, "max_length": 2, "stride": 2}, "stride is 2, expected less than max_length, 2"),
        ({"padding": "max_length", "max_length": 2**31 - 1}, "max_length is 2147483647"),
    ],
)
def test_options_that_cannot_be(tokenizer, options, message):
    for call in (tokenizer, tokenizer.encode):
        with pytest.raises(ConfigurationError, match=message):
            call("a", **options)


def test_options_of_calls(tokenizer):
    assert tokenizer("abcd", max_length=np.int64(2), truncation=True)["input_ids"] == [97, 98]
    found = tokenizer(["a", "ab"], padding=True, padding_side="right", return_tensors="np", return_length=True)
    assert found["input_ids"].tolist() == [[97, IDS["<|endoftext|>"]], [97, 98]]
    assert tokenizer("é x", return_offsets_mapping=True)["offset_mapping"] == [(0, 1), (1, 2), (2, 3)]


def test_rows_that_make_no_tensor(tokenizer, processor):
    for call in (tokenizer, lambda texts, **options: processor(text=texts, padding=False, **options)):
        with pytest.raises(PromptError, match="pass padding=True"):
            call(["a", "ab"], return_tensors="np")


@pytest.mark.parametrize("text", ["caf\udce9", ["a", "\ud800"], None, 5, [5], [None]], ids=repr)
def test_text_that_cannot_be_written(tokenizer, text):
    with pytest.raises(PromptError):
        tokenizer(text)


# ---- templates


def test_its_own_template_gets_all_variables(folder):
    """Here the processor has another, in chat_template.json."""
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "the processor's"}))
    configure(
        folder, chat_template="{{ tools | tojson }}{{ add_vision_id }}{{ documents[0].t }}{{ eos_token }}{{ own }}"
    )
    tokenizer = Qwen2_5_VLTokenizer.from_pretrained(folder)
    options = {"tools": [{"a": 1}], "add_vision_id": True, "documents": [{"t": 2}], "own": 3, "tokenize": False}
    assert tokenizer.apply_chat_template(MESSAGES, **options) == '[{"a": 1}]True2<|im_end|>3'
    assert tokenizer.apply_chat_template(MESSAGES, **options, eos_token="E").endswith("E3")


def test_templates_by_name(folder):
    named = [{"name": "default", "template": "d{{ tools }}"}, {"name": "tool_use", "template": "t{{ tools | length }}"}]
    configure(folder, chat_template=named)
    tokenizer = Qwen2_5_VLTokenizer.from_pretrained(folder)
    render = lambda **options: tokenizer.apply_chat_template(MESSAGES, tokenize=False, **options)  # noqa: E731
    assert render() == "dNone" and render(tools=[]) == "t0" and render(chat_template="default", tools=[{}]) == "d[{}]"
    with pytest.raises(PromptError, match="one of default, tool_use"):
        render(chat_template="rag")


def test_ids_of_a_conversation(tokenizer):
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.apply_chat_template(MESSAGES)["input_ids"] == ids
    assert tokenizer.apply_chat_template(MESSAGES, return_dict=False) == ids
    batch = tokenizer.apply_chat_template([MESSAGES, MESSAGES], return_tensors="np", padding=True)
    assert batch["input_ids"].tolist() == [ids, ids]
    cut = tokenizer.apply_chat_template(
        MESSAGES, truncation=True, max_length=3, tokenizer_kwargs={"return_length": True}
    )
    assert cut["input_ids"] == ids[:3] and np.ravel(cut["length"]).tolist() == [3]


@pytest.mark.parametrize("name", ["return_assistant_tokens_mask", "sanitize_control_tokens"])
def test_what_transformers_alone_does(tokenizer, name):
    with pytest.raises(PromptError, match=name):
        tokenizer.apply_chat_template(MESSAGES, **{name: True})
    tokenizer.apply_chat_template(MESSAGES, **{name: False})


# ---- files


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content }}", {"default": "d", "tool_use": "t"}], ids=["one", "two"]
)
def test_saved_and_loaded_again(folder, tmp_path_factory, template):
    tokenizer = Qwen2_5_VLTokenizer.from_pretrained(folder, padding_side="right")
    tokenizer.chat_template = template
    out = tmp_path_factory.mktemp("saved")
    tokenizer.save_pretrained(out)
    again = Qwen2_5_VLTokenizer.from_pretrained(str(out))
    assert type(again) is Qwen2_5_VLTokenizer and again.chat_template == template and again.padding_side == "right"
    assert again.special_tokens_map == tokenizer.special_tokens_map
    saved = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["tokenizer_class"] == "Qwen2Tokenizer" and saved["unk_token"] is None and saved["bos_token"] is None
    assert str(folder) not in (out / "tokenizer_config.json").read_text(encoding="utf-8")
    whole = Tokenizer.from_file(str(out / "tokenizer.json"))
    text = "<|im_start|>the 图<tool_call>"
    assert whole.encode(text).ids == tokenizer(text)["input_ids"]
    (out / "tokenizer.json").unlink()  # vocab.json and merges.txt are there, too
    assert Qwen2_5_VLTokenizer.from_pretrained(out)(text)["input_ids"] == tokenizer(text)["input_ids"]
