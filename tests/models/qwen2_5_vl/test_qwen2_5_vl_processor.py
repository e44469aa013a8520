"""The processor: messages, pictures and clips to model inputs, ids back to text, and its files."""

import copy

import hub_model
import numpy as np
import paddle
import pytest
from PIL import Image
from tokenizers import Tokenizer

from paddlemix_qwenvl import Qwen2_5_VLProcessor
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


@pytest.mark.parametrize("text", [[], [["a", "b"]], [None], 3 * [{}], 5, {"a"}], ids=str)
def test_what_is_no_text(processor, text):
    with pytest.raises(PromptError, match=r"text is .*: give one prompt or a list of them"):
        processor(text=text)


@pytest.mark.parametrize("images", [None, [], ()])
def test_no_pictures(processor, images):
    assert set(processor(text=["a"], images=images)) == {"input_ids", "attention_mask"}


# ---- options


def test_options_alone_and_by_group(processor):
    large = picture(600, 400)

    def grid(**options):
        return processor(text=[PICTURE], images=[large], return_tensors="np", **options)["image_grid_thw"].tolist()

    wanted = grid(max_pixels=16 * 784)
    assert wanted != grid()
    for options in (
        {"images_kwargs": {"max_pixels": 16 * 784}},
        {"common_kwargs": {"max_pixels": 16 * 784}},
        {"size": {"shortest_edge": 784, "longest_edge": 16 * 784}},
        {"size": {"min_pixels": 784, "max_pixels": 16 * 784}, "videos_kwargs": {"fps": 2.0}},
    ):
        assert grid(**options) == wanted
    assert processor(text=["a"], common_kwargs={"return_tensors": "np"})["input_ids"].tolist() == [[97]]
    assert processor(text=["a"], text_kwargs={"return_tensors": "np"})["input_ids"].tolist() == [[97]]
    assert grid(device="cpu", do_center_crop=False, data_format="channels_first", crop_size=None) == grid()


def test_pixels_as_a_call_wants_them(processor):
    def pixels(**options):
        return processor(text=[PICTURE], images=[picture(56, 56)], return_tensors="np", **options)["pixel_values"]

    plain, mean = pixels(do_normalize=False), pixels(image_mean=0.5, image_std=[0.5, 0.5, 0.5])
    assert plain.min() >= 0 and plain.max() <= 1
    np.testing.assert_allclose(mean, plain * 2 - 1, atol=1e-6)
    np.testing.assert_allclose(pixels(do_normalize=False, rescale_factor=1.0), plain * 255, atol=1e-4)


def test_another_cut_for_one_call(processor):
    options = {"images": [picture(84, 84)], "videos": [clip(4, 84, 84)], "merge_size": 1, "temporal_patch_size": 4}
    inputs = processor(text=[PICTURE + FILM], return_tensors="np", **options)
    counts = [(inputs["input_ids"] == IDS[token]).sum() for token in ("<|image_pad|>", "<|video_pad|>")]
    assert counts == [inputs["image_grid_thw"].prod(), inputs["video_grid_thw"].prod()]
    assert inputs["video_grid_thw"][0][0] == 1 and inputs["second_per_grid_ts"].tolist() == [2.0]


def test_sides_and_lengths_of_the_text(processor):
    pad = IDS["<|endoftext|>"]
    inputs = processor(text=["a", "ab"], padding="max_length", max_length=3, padding_side="right", return_tensors="np")
    assert inputs["input_ids"].tolist() == [[97, pad, pad], [97, 98, pad]]
    assert processor(text=["abc"], truncation=True, max_length=2)["input_ids"] == [[97, 98]]
    with pytest.raises(PromptError, match=r"truncation leaves 0 of the 4 <\|image_pad\|>"):
        processor(text=["ab" + PICTURE], images=[picture(56, 56)], truncation=True, max_length=3)


def test_kinds_of_tokens(processor):
    inputs = processor(
        text=["a" + PICTURE, FILM], images=[picture(56, 56)], videos=[clip(2, 56, 56)], return_mm_token_type_ids=True
    )
    assert inputs["mm_token_type_ids"] == [[0, 0, 1, 1, 1, 1, 0], [0, 0, 2, 2, 2, 2, 0]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_pixel": 5}, ConfigurationError, "'max_pixel'"),
        ({"images_kwargs": {"fps": 5}}, ConfigurationError, "'fps' is no setting of the processor's images_kwargs"),
        (
            {"max_pixels": 5000, "images_kwargs": {"max_pixels": 5000}},
            ConfigurationError,
            "'max_pixels' is given twice",
        ),
        ({"do_resize": False}, ConfigurationError, "do_resize is false"),
        ({"do_center_crop": True}, ConfigurationError, "do_center_crop is true"),
        ({"do_sample_frames": True}, ConfigurationError, "do_sample_frames is True"),
        ({"padding": "x"}, ConfigurationError, "padding"),
        ({"audio_kwargs": {}}, ConfigurationError, "'audio_kwargs'"),
        ({"text": ["caf\udce9"]}, PromptError, "UTF-8"),
    ],
    ids=str,
)
def test_options_that_cannot_be(processor, options, error, message):
    with pytest.raises(error, match=message):
        processor(**{"text": [PICTURE], "images": [picture(56, 56)], **options})


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


def test_rates_that_metadata_tells(processor):
    """As transformers 5 has it: of 40 frames at 20 a second, 4 were taken."""
    one = {"fps": 20.0, "total_num_frames": 40, "frames_indices": [0, 13, 26, 39]}
    options = {"text": [FILM + FILM], "videos": [clip(2, 56, 56)] * 2}
    assert processor(**options, video_metadata=[one, {"fps": 4}])["second_per_grid_ts"] == [1.0, 0.5]
    assert processor(**options, videos_kwargs={"video_metadata": [one, {}]})["second_per_grid_ts"] == [1.0, 1.0]
    assert processor(**options, video_metadata=[one] * 2, fps=1, do_sample_frames=False)["second_per_grid_ts"] == [2, 2]


def test_numpy_numbers_are_numbers(processor):
    for fps in (np.float32(4), np.int64(4), np.array([4.0, 4.0]), np.float64(4)):
        inputs = processor(text=[FILM + FILM], videos=[clip(2, 56, 56)] * 2, fps=fps)
        assert inputs["second_per_grid_ts"] == [0.5, 0.5]


@pytest.mark.parametrize("metadata", [5, {}, [{}], ["x"] * 3], ids=str)
def test_metadata_that_cannot_be(processor, metadata):
    with pytest.raises(PromptError, match=r"video_metadata is .*: give a list with one for each video"):
        processor(text=[FILM + FILM], videos=[clip(2, 56, 56)] * 2, video_metadata=metadata)


@pytest.mark.parametrize("fps", [0, -1.0, [2.0], [2.0, 0.0], [1, 2, 3], [], float("nan"), "2", ["2", 1], True], ids=str)
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
