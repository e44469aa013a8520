"""The processor: messages, pictures and clips to model inputs, ids back to text, and its files."""

import copy
import json
import shutil
from pathlib import Path

import hub_model
import numpy as np
import paddle
import pytest
from PIL import Image
from tokenizers import Tokenizer

from paddlemix_qwenvl import Qwen2_5_VLImageProcessor, Qwen2_5_VLProcessor, Qwen2_5_VLTokenizer
from paddlemix_qwenvl.errors import ConfigurationError, MediaError, PromptError
from paddlemix_qwenvl.media import Video, preprocess_images

IDS = hub_model.IDS
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"
TEXTS = [
    "the thin man",
    "Ünïcödé é 图片 🐱\n\n  x",
    "<|im_start|>user\n1 + 1<|im_end|>",
    "<tool_call>{}</tool_call>",
    " ",
    "a",
]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def clip(frames: int, width: int, height: int) -> np.ndarray:
    return np.stack([np.asarray(picture(width, height, seed)) for seed in range(frames)])


@pytest.fixture(scope="module")
def tokenizer(hub_folder):
    return Tokenizer.from_file(str(hub_folder / "tokenizer.json"))


# ---- text


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_tokenizers_library(processor, tokenizer, text):
    ids = processor(text=[text])["input_ids"][0]
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert processor.decode(ids) == text
    assert processor.batch_decode([ids, ids]) == [text, text]


def test_rows_are_padded_on_the_left(processor):
    inputs = processor(text=["a", "abcd", "ab"], return_tensors="np")
    pad = IDS["<|endoftext|>"]
    assert inputs["input_ids"].tolist() == [[pad, pad, pad, 97], [97, 98, 99, 100], [pad, pad, 97, 98]]
    assert inputs["attention_mask"].tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    assert inputs["input_ids"].dtype == np.int64
    assert set(inputs) == {"input_ids", "attention_mask"}


def test_without_padding_rows_stay_as_they_are(processor):
    assert processor(text=["a", "abcd"], padding=False)["input_ids"] == [[97], [97, 98, 99, 100]]


def test_one_text_is_a_batch_of_one(processor):
    assert processor(text="ab", return_tensors="np")["input_ids"].tolist() == [[97, 98]]


# ---- pictures


def test_placeholders_grow_and_sizes_are_reported(processor):
    images = [picture(100, 60), picture(56, 56, 1), picture(28, 300, 2)]
    texts = [f"one {PICTURE}{PICTURE}", "none", f"{PICTURE} two"]
    inputs = processor(text=texts, images=images, return_tensors="np")
    grids = inputs["image_grid_thw"]
    assert inputs["original_sizes"] == [(100, 60), (56, 56), (28, 300)]
    assert inputs["resized_sizes"] == [(columns * 14, rows * 14) for _, rows, columns in grids.tolist()]
    assert grids.tolist()[0] == [1, 4, 8] and inputs["pixel_values"].shape == (grids.prod(1).sum(), 1176)
    counts = [(row == IDS["<|image_pad|>"]).sum() for row in inputs["input_ids"]]
    tokens = grids.prod(1) // 4
    assert counts == [tokens[0] + tokens[1], 0, tokens[2]]
    wanted = preprocess_images(images, min_pixels=4 * 784, max_pixels=64 * 784)
    np.testing.assert_array_equal(inputs["pixel_values"], wanted["pixel_values"])
    np.testing.assert_array_equal(grids, wanted["image_grid_thw"])


def test_pixel_limits_of_the_folder_of_the_call_and_of_loading(processor, hub_folder):
    large = picture(600, 400)

    def pixels(processor, **limits):
        ((width, height),) = processor(text=[PICTURE], images=[large], **limits)["resized_sizes"]
        return width * height

    assert 40 * 784 < pixels(processor) <= 64 * 784
    assert 8 * 784 < pixels(processor, max_pixels=16 * 784) <= 16 * 784
    assert pixels(processor, min_pixels=500 * 784, max_pixels=700 * 784) >= 500 * 784
    assert 40 * 784 < pixels(processor) <= 64 * 784
    own = Qwen2_5_VLProcessor.from_pretrained(hub_folder, min_pixels=784, max_pixels=4 * 784)
    assert pixels(own) <= 4 * 784


def test_one_picture_needs_no_list(processor):
    one, listed = (
        processor(text=[PICTURE], images=given, return_tensors="np")["pixel_values"]
        for given in (picture(60, 60), [picture(60, 60)])
    )
    np.testing.assert_array_equal(one, listed)


def test_arrays_are_pictures_too(processor):
    array = np.asarray(picture(60, 90))
    wanted = processor(text=[PICTURE], images=[picture(60, 90)], return_tensors="np")
    for given in (array, [array]):
        found = processor(text=[PICTURE], images=given, return_tensors="np")
        np.testing.assert_array_equal(found["pixel_values"], wanted["pixel_values"])


@pytest.mark.parametrize("text", [[], [["a", "b"]], [None], 3 * [{}]], ids=str)
def test_what_is_no_text(processor, text):
    with pytest.raises(PromptError, match=r"text is .*: give one prompt or a list of them"):
        processor(text=text)


@pytest.mark.parametrize("images", [None, [], ()])
def test_no_pictures(processor, images):
    assert set(processor(text=["a"], images=images)) == {"input_ids", "attention_mask"}


# ---- clips


def test_videos(processor):
    videos = [clip(4, 60, 60), [picture(90, 60, i) for i in range(3)]]
    inputs = processor(text=[f"{FILM} {FILM}"], videos=videos, fps=[4.0, 0.5], return_tensors="np")
    grids = inputs["video_grid_thw"]
    assert grids[:, 0].tolist() == [2, 2]  # two frames a step, an odd last one twice
    assert inputs["second_per_grid_ts"].tolist() == [0.5, 4.0] and inputs["second_per_grid_ts"].dtype == np.float32
    assert inputs["pixel_values_videos"].shape == (grids.prod(1).sum(), 1176)
    assert inputs["video_original_sizes"] == [(60, 60), (90, 60)]
    assert inputs["video_resized_sizes"] == [(columns * 14, rows * 14) for _, rows, columns in grids.tolist()]
    assert (inputs["input_ids"] == IDS["<|video_pad|>"]).sum() == grids.prod(1).sum() // 4
    assert "image_grid_thw" not in inputs


def test_one_video_needs_no_list(processor):
    frames = clip(4, 60, 90)
    pictures = [Image.fromarray(frame) for frame in frames]
    video = Video(frames.transpose(0, 3, 1, 2), 4.0, np.arange(4) / 4, np.arange(4), (600, 900))
    wanted = processor(text=[FILM], videos=[pictures], return_tensors="np")
    for given, seconds in ((pictures, 1), (frames, 1), ([frames], 1), (frames[None], 1), (video, 0.5), ([video], 0.5)):
        found = processor(text=[FILM], videos=given, return_tensors="np")
        np.testing.assert_array_equal(found["pixel_values_videos"], wanted["pixel_values_videos"])
        assert found["input_ids"].tolist() == wanted["input_ids"].tolist()
        assert found["second_per_grid_ts"].tolist() == [seconds]
    assert found["video_original_sizes"] == [(600, 900)]


@pytest.mark.parametrize(
    ("fps", "seconds"), [(None, [1.0, 1.0]), (1, [2.0, 2.0]), ([2, 8.0], [1.0, 0.25]), ((1.0, 4), [2.0, 0.5])], ids=str
)
def test_frames_a_second(processor, fps, seconds):
    options = {} if fps is None else {"fps": fps}
    inputs = processor(text=[FILM + FILM], videos=[clip(2, 56, 56)] * 2, **options)
    assert inputs["second_per_grid_ts"] == seconds


def test_numpy_numbers_are_numbers(processor):
    for fps in (np.float32(4), np.int64(4), np.array([4.0, 4.0]), np.float64(4)):
        inputs = processor(text=[FILM + FILM], videos=[clip(2, 56, 56)] * 2, fps=fps)
        assert inputs["second_per_grid_ts"] == [0.5, 0.5]


@pytest.mark.parametrize("fps", [0, -1.0, [2.0], [2.0, 0.0], [1.0, 2.0, 3.0], [], float("nan")], ids=str)
def test_frames_a_second_that_cannot_be(processor, fps):
    with pytest.raises(PromptError, match=r"fps is .* for 2 video\(s\): give one number over 0, or one for each"):
        processor(text=[FILM + FILM], videos=[clip(2, 56, 56)] * 2, fps=fps)


def test_pictures_and_videos_together(processor):
    text = f"{FILM}{PICTURE}{FILM}"
    inputs = processor(text=[text], images=[picture(56, 56)], videos=[clip(2, 56, 56), clip(2, 56, 112)])
    ids = np.array(inputs["input_ids"][0])
    marks = [int(i) for i in ids if i in (IDS["<|image_pad|>"], IDS["<|video_pad|>"])]
    video, image = IDS["<|video_pad|>"], IDS["<|image_pad|>"]
    assert marks == [video] * 4 + [image] * 4 + [video] * 8


# ---- what comes back


def test_tensors(processor):
    options = {"text": [PICTURE + FILM], "images": [picture(56, 56)], "videos": [clip(2, 56, 56)]}
    pd, np_, plain = (processor(**options, return_tensors=kind) for kind in ("pd", "np", None))
    sizes = {"original_sizes", "resized_sizes", "video_original_sizes", "video_resized_sizes"}
    arrays = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"}
    arrays |= {"second_per_grid_ts"}
    assert set(pd) == set(np_) == set(plain) == sizes | arrays
    for name in arrays:
        assert isinstance(pd[name], paddle.Tensor) and isinstance(np_[name], np.ndarray)
        np.testing.assert_array_equal(pd[name].numpy(), np_[name])
        np.testing.assert_array_equal(np.asarray(plain[name], np_[name].dtype), np_[name])
    for name in sizes:
        assert pd[name] == np_[name] == plain[name] == [(56, 56)]
    assert {str(np_[name].dtype) for name in ("input_ids", "image_grid_thw", "video_grid_thw")} == {"int64"}
    assert np_["pixel_values"].dtype == np.float32
    assert isinstance(plain["input_ids"], list)
    assert arrays - set(processor.model_input_names) == set()


def test_other_tensors_are_refused(processor):
    with pytest.raises(ConfigurationError, match=r"return_tensors is 'pt': it must be 'pd', 'np' or None"):
        processor(text=["a"], return_tensors="pt")


def test_what_was_given_is_left_as_it_was(processor, tmp_path):
    picture(56, 56).save(tmp_path / "a.png")
    messages = [
        {
            "role": "user",
            "content": [{"type": "image", "image": str(tmp_path / "a.png")}, {"type": "text", "text": "?"}],
        }
    ]
    texts, images, videos, fps = [PICTURE + FILM], [picture(56, 56)], [[picture(56, 56)]], [1.0]
    before = copy.deepcopy((messages, texts, images, videos, fps))
    processor(text=texts, images=images, videos=videos, fps=fps)
    processor.apply_chat_template(messages, tokenize=True)
    assert (messages, texts, images, videos, fps) == before


# ---- errors


def test_pictures_and_text_that_do_not_fit(processor):
    with pytest.raises(PromptError, match=r"has 2 image placeholders .* but 1 images were given"):
        processor(text=[PICTURE * 2], images=[picture(56, 56)])
    with pytest.raises(PromptError, match=r"has 0 image placeholders .* but 1 images were given"):
        processor(text=["a"], images=[picture(56, 56)])
    with pytest.raises(PromptError, match=r"has 1 video placeholders .* but 0 videos were given"):
        processor(text=[FILM], images=None)
    with pytest.raises(PromptError, match=r"needs text="):
        processor(images=[picture(56, 56)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00", r"cut\.png"),
        ("none.png", None, r"none\.png"),
        ("empty.jpg", b"", r"empty\.jpg"),
    ],
)
def test_pictures_that_cannot_be_read(processor, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=message):
        processor(text=[PICTURE], images=[str(tmp_path / name)])


def test_a_truncated_picture(processor, tmp_path):
    picture(80, 80).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    with pytest.raises(MediaError, match=r"half\.png"):
        processor(text=[PICTURE], images=[str(tmp_path / "half.png")])


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5, 3), np.uint8), Image.new("RGB", (0, 0)), Image.new("RGB", (4, 0))], ids=range(3)
)
def test_a_picture_of_no_size(processor, image):
    with pytest.raises(MediaError, match=r"\b0\b"):
        processor(text=[PICTURE], images=[image])


@pytest.mark.parametrize("size", [(6000, 20), (20, 6000)], ids=str)
def test_a_picture_far_too_long(processor, size):
    with pytest.raises(MediaError, match=r"200"):
        processor(text=[PICTURE], images=[picture(*size)])


def test_a_small_picture_is_scaled_up(processor):
    inputs = processor(text=[PICTURE], images=[picture(5, 9)])
    assert inputs["original_sizes"] == [(5, 9)] and min(inputs["resized_sizes"][0]) >= 28


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
