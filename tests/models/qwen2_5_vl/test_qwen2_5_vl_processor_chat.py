"""The processor's other half: messages in, text out, and its files."""

import copy
import json
import shutil
from pathlib import Path

import hub_model
import numpy as np
import paddle
import pytest
from PIL import Image

from paddlemix_qwenvl import Qwen2_5_VLImageProcessor, Qwen2_5_VLProcessor
from paddlemix_qwenvl.errors import ConfigurationError, PromptError

IDS = hub_model.IDS
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


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


def test_variables_and_options_of_a_call(processor):
    """With `tokenize`, what the template does not read is the processor's, or nobody's."""
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture(300, 300)}, {"type": "text", "text": "?"}]}
    ]
    options = {"add_vision_id": True, "tokenize": True, "max_pixels": 16 * 784}
    inputs = processor.apply_chat_template(messages, **options)
    assert "Picture 1: " in processor.decode(inputs["input_ids"][0]) and inputs["image_grid_thw"][0].prod() <= 64
    kwargs = {"images_kwargs": {"max_pixels": 16 * 784}, "return_tensors": "np"}
    again = processor.apply_chat_template(messages, add_vision_id=True, tokenize=True, processor_kwargs=kwargs)
    assert again["input_ids"].tolist() == inputs["input_ids"]
    assert processor.apply_chat_template(messages, **options, return_dict=False) == inputs["input_ids"]
    with pytest.raises(ConfigurationError, match=r"'max_pixel' is no setting of apply_chat_template"):
        processor.apply_chat_template(messages, tokenize=True, max_pixel=5)


def test_the_last_message_goes_on(processor):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    text = processor.apply_chat_template(messages, continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\nho")


def test_two_templates(hub_folder, tmp_path):
    """chat_template.json is the processor's alone; of several, the processor renders the default one, tools or not."""
    folder = shutil.copytree(hub_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    named = [
        {"name": "default", "template": "{{ eos_token }}d"},
        {"name": "tool_use", "template": "{{ tools | length }}t"},
    ]
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": named}))
    own = Qwen2_5_VLProcessor.from_pretrained(folder)
    messages = [{"role": "user", "content": "hi"}]
    assert own.apply_chat_template(messages) == own.apply_chat_template(messages, tools=[{}]) == "<|im_end|>d"
    assert own.apply_chat_template(messages, chat_template="tool_use", tools=[{}]) == "1t"
    assert own.tokenizer.apply_chat_template(messages, tokenize=False).startswith("<|im_start|>system")
    own.save_pretrained(tmp_path / "saved")
    again = Qwen2_5_VLProcessor.from_pretrained(tmp_path / "saved")
    assert again.chat_template == own.chat_template == {one["name"]: one["template"] for one in named}
    assert Qwen2_5_VLProcessor.from_pretrained(folder, chat_template="{{ 7 }}").apply_chat_template(messages) == "7"


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
    assert newer.settings == older.settings and dict(newer.size) == {"shortest_edge": 3136, "longest_edge": 12845056}
    newer.size = {"longest_edge": 5000}
    assert (newer.min_pixels, newer.max_pixels) == (3136, 5000)


def test_files_of_transformers_5(hub_folder, tmp_path):
    """processor_config.json holds the settings of images and of videos, which need not be the same."""
    folder = shutil.copytree(hub_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "preprocessor_config.json").unlink()
    sizes = {name: {"size": {"shortest_edge": 784, "longest_edge": n * 784}} for name, n in PARTS.items()}
    (folder / "processor_config.json").write_text(json.dumps(sizes))
    own = Qwen2_5_VLProcessor.from_pretrained(folder)
    images, clips = [picture(112, 112)], [[picture(112, 112)]]
    for _ in range(2):
        inputs = own(text=[PICTURE + FILM], images=images, videos=clips, return_tensors="np")
        assert inputs["image_grid_thw"].prod() == 4 * 4 and inputs["video_grid_thw"].prod() == 4 * 9
        own.save_pretrained(folder)  # over the old files
        assert not (folder / "processor_config.json").exists()
        own = Qwen2_5_VLProcessor.from_pretrained(folder)
    both = Qwen2_5_VLProcessor.from_pretrained(folder, max_pixels=784)
    assert both.image_processor.max_pixels == both.video_processor.max_pixels == 784


PARTS = {"image_processor": 4, "video_processor": 9}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": "red"}, "'colour' is no setting of .*: choose from .*min_pixels, max_pixels, size"),
        ({"max_pixel": 5}, r"'max_pixel' is no setting of .* \(did you mean 'max_pixels'\?\)"),
        ({"max_pixels": "many"}, 'max_pixels is "many"'),
        ({"max_pixels": 5}, "min_pixels is 3136, expected at most max_pixels, 5"),
    ],
)
def test_settings_no_processor_has(hub_folder, processor, given, message):
    for make in (
        lambda: Qwen2_5_VLProcessor.from_pretrained(hub_folder, **given),
        lambda: Qwen2_5_VLProcessor(copy.copy(processor.image_processor), processor.tokenizer, **given),
        lambda: processor(text=["a"], **given),
        lambda: processor(text=["a"], images_kwargs=given),
        lambda: processor(text=["a"], videos_kwargs=given),
        lambda: processor.image_processor([picture(56, 56)], **given),
        lambda: Qwen2_5_VLImageProcessor(**given),
        lambda: Qwen2_5_VLImageProcessor.from_pretrained(hub_folder, **given),
    ):
        with pytest.raises(ConfigurationError, match=message):
            make()


def test_ids_that_config_json_has_otherwise(hub_folder, tmp_path):
    folder = shutil.copytree(hub_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_token_id": 7}))
    with pytest.raises(ConfigurationError, match=rf"image_token_id is 7, expected {IDS['<|image_pad|>']}, the id of"):
        Qwen2_5_VLProcessor.from_pretrained(folder)
