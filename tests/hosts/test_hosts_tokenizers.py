"""PaddleNLP's kind of the tokenizers: what its own classes offer beside ours."""

import copy

import hub_model
import pytest
import qwen_vl_model
from reference.qwen_vl import qwen_vl_cases

from paddlemix_qwenvl import Qwen2_5_VLTokenizer, QWenVLTokenizer
from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.models.qwen_vl.ranks import special_tokens

IDS = hub_model.IDS


@pytest.fixture(scope="module")
def tokenizer(hub_folder):
    return Qwen2_5_VLTokenizer.from_pretrained(hub_folder)


@pytest.fixture(scope="module")
def qwen_vl(tmp_path_factory):
    config = qwen_vl_cases.CONFIGS["wide"]
    folder = qwen_vl_model.write(tmp_path_factory.mktemp("qwen_vl"), config, qwen_vl_cases.tensors(config))
    return QWenVLTokenizer.from_pretrained(folder)


def test_what_the_host_asks(tokenizer):
    assert tokenizer.padding_side == "left" and tokenizer.is_fast
    assert tokenizer.pad_token_id == IDS["<|endoftext|>"] and tokenizer.eos_token_id == IDS["<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == IDS["<|image_pad|>"]
    assert len(tokenizer) == len(hub_model.RANKS) + len(IDS) and tokenizer.vocab_size == len(hub_model.RANKS)
    assert tokenizer.additional_special_tokens[:2] == ["<|im_start|>", "<|im_end|>"]
    assert tokenizer.model_max_length == 131072
    assert copy.deepcopy(tokenizer)("the")["input_ids"] == tokenizer("the")["input_ids"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_lenght": 3}, "'max_lenght' is no setting"),
        ({"padding": "most"}, "padding"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_options_of_a_batch_that_cannot_be(tokenizer, options, message):
    with pytest.raises(ConfigurationError, match=message):
        tokenizer.batch_encode(["a"], **options)


def test_pairs_and_words(tokenizer):
    assert tokenizer(["a"], ["b"])["input_ids"] == [[97, 98]]
    assert tokenizer(["the", "man"], is_split_into_words=True)["input_ids"] == tokenizer("theman")["input_ids"]


def test_the_vocabulary_is_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert Qwen2_5_VLTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_the_core_numbers_special_tokens_as_the_host_does(qwen_vl):
    assert special_tokens(len(qwen_vl.mergeable_ranks)) == qwen_vl.special_tokens


def test_a_file_of_ranks_that_cannot_be(tmp_path):
    (tmp_path / "qwen.tiktoken").write_bytes(b"YQ== 0\n")
    with pytest.raises(ConfigurationError, match="no token for the byte 0"):
        QWenVLTokenizer(str(tmp_path / "qwen.tiktoken"))
    with pytest.raises(ConfigurationError, match=r"other\.tiktoken cannot be read \(No such file"):
        QWenVLTokenizer(str(tmp_path / "other.tiktoken"))


def test_special_tokens_in_a_plain_call_and_where_they_are_not_allowed(qwen_vl):
    assert qwen_vl("<|im_end|>")["input_ids"] == [qwen_vl.im_end_id]
    assert qwen_vl.im_end_id not in qwen_vl("<|im_end|>", allowed_special={"<img>"})["input_ids"]
    with pytest.raises(PromptError, match=r"<\|im_end\|>"):
        qwen_vl("<|im_end|>", allowed_special=set(), disallowed_special="all")
