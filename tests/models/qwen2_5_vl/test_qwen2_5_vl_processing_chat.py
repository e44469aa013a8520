"""The processor's other half: messages in, text out, and its files."""

import json
import shutil
from pathlib import Path

import hub_model
import numpy as np
import paddle
import pytest
from PIL import Image

from paddlemix_qwenvl import Qwen2_5_VLImageProcessor, Qwen2_5_VLProcessor, Qwen2_5_VLTokenizer
from paddlemix_qwenvl.errors import ConfigurationError, PromptError

IDS = hub_model.IDS
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# ---- chat


def conversation(path: Path, question: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": str(path)}, {"type": "text", "text": question}]}]


def test_messages_to_text_and_to_inputs(processor, tmp_path):
    picture(120, 60).save(tmp_path / "a.png")
    messages = conversation(tmp_path / "a.png", "what?")
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert text.endswith(f"<|im_start|>user\n{PICTURE}what?<|im_end|>\n<|im_start|>assistant\n")
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_tensors="np")
    by_hand = processor(text=[text], images=[str(tmp_path / "a.png")], return_tensors="np")
    assert inputs["input_ids"].tolist() == by_hand["input_ids"].tolist()
    assert inputs["original_sizes"] == [(120, 60)]
    assert inputs["resized_sizes"] == by_hand["resized_sizes"] == [(112, 56)]


def test_a_batch_of_conversations_in_order(processor, tmp_path):
    for name, size in (("a", (56, 56)), ("b", (112, 56))):
        picture(*size).save(tmp_path / f"{name}.png")
    conversations = [
        conversation(tmp_path / "b.png", "long question"),
        [{"role": "user", "content": "text only"}],
        conversation(tmp_path / "a.png", "?"),
    ]
    inputs = processor.apply_chat_template(conversations, tokenize=True, return_tensors="np")
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 8], [1, 4, 4]]
    assert (inputs["input_ids"] == IDS["<|image_pad|>"]).sum(1).tolist() == [8, 0, 4]


def test_a_message_can_ask_for_a_size(processor, tmp_path):
    picture(200, 200).save(tmp_path / "a.png")
    messages = conversation(tmp_path / "a.png", "?")
    messages[0]["content"][0] |= {"resized_height": 84, "resized_width": 140}
    inputs = processor.apply_chat_template(messages, tokenize=True)
    assert inputs["resized_sizes"] == [(140, 84)] and inputs["original_sizes"] == [(200, 200)]


def test_a_videos_own_rate_reaches_its_seconds(processor):
    frames = [picture(56, 56, i) for i in range(4)]
    messages = [{"role": "user", "content": [{"type": "video", "video": frames, "sample_fps": 8.0}]}]
    inputs = processor.apply_chat_template(messages, tokenize=True)
    assert inputs["second_per_grid_ts"] == [0.25] and inputs["video_grid_thw"].tolist()[0][0] == 2


def test_a_template_of_ones_own(processor):
    messages = [{"role": "user", "content": "hi"}]
    assert processor.apply_chat_template(messages, chat_template="[{{ messages[0].content }}]") == "[hi]"


def test_the_tokenizers_own_template(processor):
    messages = [{"role": "user", "content": "hi"}]
    text = processor.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == processor.apply_chat_template(messages)
    assert processor.tokenizer.apply_chat_template(messages)["input_ids"] == processor(text=[text])["input_ids"][0]


@pytest.mark.parametrize("kind", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_a_template_from_each_of_its_files(hub_folder, tmp_path, kind):
    folder = shutil.copytree(hub_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template")
    (folder / "chat_template.json").unlink()
    template = "«{{ messages[0].content }}»"
    if kind == "tokenizer_config.json":
        config["chat_template"] = template
    elif kind == "chat_template.json":
        (folder / kind).write_text(json.dumps({"chat_template": template}))
    else:
        (folder / kind).write_text(template, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    own = Qwen2_5_VLProcessor.from_pretrained(folder)
    assert own.apply_chat_template([{"role": "user", "content": "hi"}]) == "«hi»"


def test_a_folder_without_a_template(hub_folder, tmp_path):
    folder = shutil.copytree(hub_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "chat_template"}))
    (folder / "chat_template.json").unlink()
    own = Qwen2_5_VLProcessor.from_pretrained(folder)
    assert own(text=["ab"])["input_ids"] == [[97, 98]]
    with pytest.raises(PromptError, match="no chat template"):
        own.apply_chat_template([{"role": "user", "content": "hi"}])


# ---- ids to text


def test_decoding_keeps_or_drops_special_tokens(processor):
    ids = [*b" Hi , there ! ", IDS["<tool_call>"], IDS["<|im_end|>"], IDS["<|endoftext|>"]]
    assert processor.decode(ids) == " Hi , there ! <tool_call><|im_end|><|endoftext|>"
    assert processor.decode(ids, skip_special_tokens=True) == " Hi , there ! <tool_call>"
    rows = paddle.to_tensor([ids, ids])
    kept, dropped = " Hi , there ! <tool_call><|im_end|><|endoftext|>", " Hi , there ! <tool_call>"
    assert processor.batch_decode(rows) == processor.batch_decode(rows.numpy()) == [kept, kept]
    scores = paddle.zeros([2, 1])
    assert processor.batch_decode((rows, scores), skip_special_tokens=True) == [dropped, dropped]
    assert processor.post_process((rows, scores)) == processor.post_process(rows) == [dropped.strip()] * 2


# ---- files


def test_saved_and_loaded_again(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.json"} <= written
    assert not [name for name in written if name.startswith(".")]
    again = Qwen2_5_VLProcessor.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "the thin man 图"}]
    options = {"images": [picture(333, 100)], "return_tensors": "np"}
    texts = [one.apply_chat_template(messages) + PICTURE for one in (processor, again)]
    first, second = (one(text=[text], **options) for one, text in zip((processor, again), texts, strict=True))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert again.decode(first["input_ids"][0]) == processor.decode(first["input_ids"][0])


def test_limits_changed_on_loading_are_saved(hub_folder, tmp_path):
    Qwen2_5_VLProcessor.from_pretrained(hub_folder, max_pixels=12 * 784).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["max_pixels"] == 12 * 784
    assert Qwen2_5_VLProcessor.from_pretrained(tmp_path).image_processor.max_pixels == 12 * 784


def test_the_newer_names_of_the_limits():
    newer = Qwen2_5_VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 12845056})
    older = Qwen2_5_VLImageProcessor(min_pixels=3136, max_pixels=12845056)
    assert (newer.min_pixels, newer.max_pixels) == (older.min_pixels, older.max_pixels) == (3136, 12845056)


def test_settings_no_processor_has(processor, hub_folder):
    with pytest.raises(ConfigurationError, match=r"'colour' is no setting of the processor: choose from min_pixels"):
        Qwen2_5_VLProcessor(processor.image_processor, processor.tokenizer, colour="red")


def test_tokenizer_alone(hub_folder):
    tokenizer = Qwen2_5_VLTokenizer.from_pretrained(hub_folder)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id == IDS["<|endoftext|>"] and tokenizer.eos_token_id == IDS["<|im_end|>"]
    assert tokenizer.convert_tokens_to_ids("<|image_pad|>") == IDS["<|image_pad|>"]
    assert len(tokenizer) == len(hub_model.RANKS) + len(IDS)
