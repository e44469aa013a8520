"""The tokenizer's files as the tools of several years saved them, and as nobody should."""

import json

import hub_model
import pytest
from reference.tokenizer_files import SPECIAL_TOKENS
from tokenizers import Tokenizer

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.tokenizer_files import NEEDED, read_tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import read_settings

IDS = hub_model.IDS
TEXT = "<|im_start|>user\nthe café 图片<|image_pad|> <tool_call> e\u0301 I'll 123<|im_end|>\r\n\t x"


@pytest.fixture
def folder(tokenizer_folder):
    return tokenizer_folder


@pytest.fixture(scope="module")
def wanted(hub_folder):
    return Tokenizer.from_file(str(hub_folder / "tokenizer.json"))


def read(folder) -> Tokenizer:
    return read_tokenizer(folder, read_settings(folder))


def change(path, **fields) -> None:
    """Set fields of a JSON file; `...` takes one away, and a function is given what is there."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        found[name] = value(found.get(name)) if callable(value) else value
    kept = {name: value for name, value in found.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def added_tokens(**more) -> str:
    return json.dumps({**IDS, **more})


def assert_same(found: Tokenizer, wanted: Tokenizer) -> None:
    assert found.encode(TEXT).ids == wanted.encode(TEXT).ids
    assert found.get_vocab() == wanted.get_vocab()
    for skip in (True, False):
        ids = list(range(wanted.get_vocab_size()))
        assert found.decode(ids, skip_special_tokens=skip) == wanted.decode(ids, skip_special_tokens=skip)


def test_as_the_hub_has_them(folder, wanted):
    assert_same(read(folder), wanted)


def test_tokenizer_json_alone_as_transformers_5_writes_it(folder, wanted):
    """Its config lists no added tokens; merges are pairs."""
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    change(folder / "tokenizer_config.json", added_tokens_decoder=..., additional_special_tokens=...)
    pairs = [merge.split(" ") for merge in json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]]
    change(folder / "tokenizer.json", model=lambda model: {**model, "merges": pairs})
    assert_same(read(folder), wanted)


def test_a_post_processor_that_adds_nothing(folder, wanted):
    """As transformers 5 writes one for a tokenizer that it made of a vocabulary and merges."""
    single = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}}
    change(
        folder / "tokenizer.json", post_processor=single, padding={"direction": "Right"}, truncation={"max_length": 3}
    )
    assert_same(read(folder), wanted)
    change(folder / "tokenizer.json", post_processor={**single, "special_tokens": {"<s>": {"ids": [1]}}})
    with pytest.raises(ConfigurationError, match=r"post_processor\.special_tokens"):
        read(folder)


def test_tokenizer_json_goes_before_what_lies_beside_it(folder, wanted):
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).write_text("{")
    assert_same(read(folder), wanted)


def test_vocabulary_and_merges_with_the_config_s_list(folder, wanted):
    (folder / "tokenizer.json").unlink()
    assert_same(read(folder), wanted)


@pytest.mark.parametrize("config", [True, False], ids=["config", "no config"])
def test_vocabulary_and_merges_with_added_tokens_json(folder, wanted, config):
    """transformers up to 4.33 wrote no list into the config, and some folders have no config at all."""
    (folder / "tokenizer.json").unlink()
    (folder / "added_tokens.json").write_text(added_tokens())
    if config:
        change(folder / "tokenizer_config.json", added_tokens_decoder=...)
    else:
        (folder / "tokenizer_config.json").unlink()
    found = read(folder)
    assert found.encode(TEXT).ids == wanted.encode(TEXT).ids
    special = found.decode([IDS[token] for token in SPECIAL_TOKENS] + [IDS["<tool_call>"]], skip_special_tokens=True)
    assert special == "<tool_call>"


def test_merges_with_windows_line_ends_and_without_a_version(folder, wanted):
    (folder / "tokenizer.json").unlink()
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "merges.txt").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    assert_same(read(folder), wanted)


def test_special_tokens_map_counts_where_no_added_tokens_are_listed(folder):
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    assert read_settings(folder).named_tokens()["eos_token"] == "<|im_end|>"
    change(folder / "tokenizer_config.json", added_tokens_decoder=...)
    assert read_settings(folder).named_tokens()["eos_token"] == "<|endoftext|>"


def test_ids_with_gaps(folder):
    """The library numbers added tokens without gaps; a vocabulary that was padded to a round size has some."""
    (folder / "tokenizer.json").unlink()
    (folder / "added_tokens.json").write_text(added_tokens(**{"<far>": 5000, "<near>": 400}))
    change(folder / "tokenizer_config.json", added_tokens_decoder=...)
    found = read(folder)
    assert found.encode("<far>a<near><|im_end|>").ids == [5000, 97, 400, IDS["<|im_end|>"]]
    assert found.decode([400, 97, 5000]) == "<near>a<far>"


def test_the_config_may_list_more(folder):
    more = {"287": {"content": "<|new|>", "lstrip": True, "special": True}}
    change(folder / "tokenizer_config.json", added_tokens_decoder=lambda found: {**found, **more})
    found = read(folder)
    assert found.encode("a <|new|>").ids == [97, 287] and found.decode([97, 287]) == "a"


def test_special_tokens_of_every_form(folder):
    change(
        folder / "tokenizer_config.json",
        additional_special_tokens=...,
        eos_token={"__type": "AddedToken", "content": "<|im_end|>", "lstrip": False},
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": {"content": "<|video_pad|>"}},
    )
    settings = read_settings(folder)
    assert settings.named_tokens() == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert settings.other_tokens() == ["<|image_pad|>", "<|video_pad|>"]
    read_tokenizer(folder, settings)


@pytest.mark.parametrize("token", NEEDED)
@pytest.mark.parametrize("source", ["tokenizer.json", "tokenizer_config.json"])
def test_a_special_token_that_is_not_one_id(folder, source, token):
    if source == "tokenizer.json":
        change(folder / "tokenizer_config.json", added_tokens_decoder=...)
        change(folder / source, added_tokens=lambda found: [one for one in found if one["content"] != token])
    else:
        (folder / "tokenizer.json").unlink()
        kept = {str(index): {"content": content} for content, index in IDS.items() if content != token}
        change(folder / source, added_tokens_decoder=kept)
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    assert f"has no {token} as a token of its own" in str(caught.value)


def model(**changes) -> dict:
    return {"model": lambda model: {**model, **changes}}


def first_added(**changes) -> dict:
    return {"added_tokens": lambda tokens: [{**tokens[0], **changes}, *tokens[1:]]}


def without_a(model: dict) -> dict:
    return {**model, "vocab": {token: index for token, index in model["vocab"].items() if token != "a"}}


WRONG = {
    "tokenizer.json": [
        ({"model": ...}, "model is missing"),
        ({"normalizer": ...}, "normalizer is missing"),
        ({"normalizer": {"type": "NFKC"}}, 'normalizer.type is "NFKC"'),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        (
            {"post_processor": {"type": "Bert"}},
            'post_processor is {"type": "Bert"}, expected a ByteLevel, or a Template',
        ),
        ({"post_processor": [5]}, "post_processor is [5], expected a ByteLevel"),
        ({"post_processor": {"type": "ByteLevel", "trim_offsets": 5}}, "post_processor.trim_offsets is 5"),
        ({"decoder": {"type": "ByteLevel", "use_regex": "7"}}, 'decoder.use_regex is "7"'),
        ({"model": without_a}, "no token is 'a', expected one for each byte"),
        (model(type="WordPiece"), 'model.type is "WordPiece"'),
        (model(byte_fallback=True), "model.byte_fallback is true"),
        (model(dropout=0.1), "model.dropout is 0.1"),
        (model(vocab={"a": "1"}), 'model.vocab.a is "1"'),
        (model(vocab={"a": -1}), "model.vocab.a is -1"),
        (model(vocab={}), "expected one for each byte"),
        (model(merges=["a"]), 'model.merges[0] is "a", expected two tokens'),
        (model(merges=[["a", 1]]), "model.merges[0]"),
        (model(merges=[]), "no merge makes the token 'an'"),
        ({"model": lambda model: {**model, "merges": [*model["merges"], "a zzz"]}}, "holds no byte-level BPE"),
        (
            {"model": lambda model: {**model, "vocab": {**model["vocab"], "a": 5000}}},
            "the id of 'a' is 5000, expected 0 to 264",
        ),
        (first_added(id="265"), 'added_tokens[0].id is "265"'),
        (first_added(special="yes"), "added_tokens[0].special"),
        (first_added(content=""), 'added_tokens[0].content is ""'),
        (first_added(id=97), "the id of '<|endoftext|>' is 97, expected another than that of 'a'"),
        (first_added(id=266), "the id of '<|im_start|>' is 266, expected another than that of '<|endoftext|>'"),
    ],
    "tokenizer_config.json": [
        ({"eos_token": 5}, "eos_token is 5"),
        ({"eos_token": {"content": 5}}, "eos_token.content is 5"),
        ({"pad_token": "nothing"}, 'pad_token is "nothing", expected a token of the vocabulary'),
        ({"additional_special_tokens": ["<x>"]}, 'additional_special_tokens is "<x>", expected a token'),
        ({"additional_special_tokens": "<x>"}, 'additional_special_tokens is "<x>"'),
        ({"added_tokens_decoder": []}, "added_tokens_decoder is []"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "added_tokens_decoder.x"),
        ({"added_tokens_decoder": {"270": {"content": "<|endoftext|>"}}}, "of '<|endoftext|>' is 270, expected 265"),
        ({"model_max_length": 0}, "model_max_length is 0"),
        ({"padding_side": "up"}, 'padding_side is "up"'),
        ({"split_special_tokens": True}, "split_special_tokens is true, expected false"),
        ({"add_prefix_space": 0}, "add_prefix_space is 0"),
        ({"chat_template": 5}, "chat_template is 5"),
        ({"chat_template": [{"name": "../x", "template": "a"}]}, "chat_template[0].name"),
    ],
}


@pytest.mark.parametrize(
    ("name", "fields", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases], ids=lambda _: ""
)
def test_what_cannot_be(folder, name, fields, message):
    change(folder / name, **fields)
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    assert message in str(caught.value) and str(folder / name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{", "vocab.json cannot be read as JSON"),
        ("vocab.json", '{"a": 1.5}', "vocab.json: a is 1.5"),
        ("merges.txt", None, "merges.txt cannot be read"),
        ("merges.txt", "#version: 0.2\nt h\n", "no merge makes"),
        ("merges.txt", "#version: 0.2\na\n", 'line 2 is "a", expected two tokens'),
        ("merges.txt", "a b c\n", 'line 1 is "a b c", expected two tokens'),
        ("merges.txt", b"\xff\xfe", "merges.txt cannot be read"),
        ("added_tokens.json", '{"<|im_end|>": "7"}', 'added_tokens.json: <|im_end|> is "7"'),
        ("added_tokens.json", '{"<|im_end|>": 97}', "the id of '<|im_end|>' is 97"),
    ],
    ids=range(9),
)
def test_what_cannot_be_in_the_older_files(folder, name, content, message):
    (folder / "tokenizer.json").unlink()
    change(folder / "tokenizer_config.json", added_tokens_decoder=...)
    (folder / "added_tokens.json").write_text(added_tokens())
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    assert message in str(caught.value)
    assert str(folder / name) in str(caught.value) or "no merge" in message


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigurationError, match=r"holds neither tokenizer\.json nor vocab\.json with merges\.txt"):
        read(tmp_path)
