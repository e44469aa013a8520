"""Settings of pictures from the files that each version of transformers writes, and from calls."""

import json

import pytest

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.models.qwen2_5_vl.image_settings import (
    COUNTED,
    IMAGES,
    VIDEOS,
    patch_arguments,
    picture_settings,
    read_picture_settings,
)

LIMITS = {"min_pixels": 784, "max_pixels": 7840}
CONFIG = {"vision_config": {"patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}}


def write(folder, **files) -> None:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "limits",
    [
        LIMITS,
        {"size": LIMITS},
        {"size": {"shortest_edge": 784, "longest_edge": 7840}},
        {"size": {"shortest_edge": 1, "longest_edge": 9}, **LIMITS},
        {"min_pixels": 784, "size": {"shortest_edge": 1, "longest_edge": 7840}},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["preprocessor_config", "processor_config"])
def test_limits_under_each_name_in_each_file(tmp_path, limits, name):
    write(tmp_path, **{name: {"image_processor": limits} if name == "processor_config" else limits})
    images, videos = read_picture_settings(tmp_path)
    assert images == videos == {**IMAGES, **LIMITS} and tuple(images) == COUNTED


def test_videos_may_have_their_own(tmp_path):
    write(tmp_path, preprocessor_config=LIMITS, video_preprocessor_config={"size": {"longest_edge": 10**6}})
    images, videos = read_picture_settings(tmp_path)
    assert images["max_pixels"] == 7840 and videos == {**VIDEOS, "max_pixels": 10**6}
    write(
        tmp_path, processor_config={"image_processor": {"max_pixels": 9000}, "video_processor": {"do_normalize": False}}
    )
    images, videos = read_picture_settings(tmp_path)
    assert images["max_pixels"] == 9000 and videos == {**VIDEOS, "do_normalize": False}


def test_a_processor_config_that_holds_no_image_processor(tmp_path):
    """transformers 4.57 writes one for what belongs to no part."""
    write(tmp_path, preprocessor_config=LIMITS, processor_config={"processor_class": "Qwen2_5_VLProcessor"})
    assert read_picture_settings(tmp_path)[0]["max_pixels"] == 7840


def test_a_folder_without_settings(tmp_path):
    with pytest.raises(ConfigurationError, match=r"neither preprocessor_config\.json nor processor_config\.json"):
        read_picture_settings(tmp_path)


def test_what_is_said_goes_over_the_base():
    base = picture_settings({"max_pixels": 50_000, "image_mean": 0.5}, "a file")
    assert base == {**IMAGES, "max_pixels": 50_000, "image_mean": 0.5}
    over = picture_settings({"size": {"shortest_edge": 1000}, "patch_size": None, "unknown": 1}, "a call", base)
    assert over == {**base, "min_pixels": 1000}


def test_arguments_of_media():
    settings = picture_settings({"do_normalize": False}, "a file")
    assert patch_arguments(settings)["image_mean"] == 0 and patch_arguments(settings)["image_std"] == 1
    assert patch_arguments(IMAGES) == {name: value for name, value in IMAGES.items() if name != "do_normalize"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_pixels": "3136"}, 'min_pixels is "3136"'),
        ({"min_pixels": 0}, "min_pixels is 0"),
        ({"min_pixels": 2**31 - 1}, "min_pixels is 2147483647"),
        ({"max_pixels": -1}, "max_pixels is -1"),
        ({"max_pixels": 5.5}, "max_pixels is 5.5"),
        ({"max_pixels": True}, "max_pixels is true"),
        ({"max_pixels": 100}, "min_pixels is 3136, expected at most max_pixels, 100"),
        ({"size": 5}, "size is 5"),
        ({"size": {"longest_edge": 100}}, "min_pixels is 3136, expected at most"),
        ({"size": {"longest_edge": "1"}}, 'size.longest_edge is "1"'),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 10**6}, "patch_size is 1000000"),
        ({"merge_size": "2"}, 'merge_size is "2"'),
        ({"temporal_patch_size": 2.0}, "temporal_patch_size is 2.0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_mean": [0.5, 0.5, "x"]}, "image_mean"),
        ({"image_mean": float("nan")}, "image_mean is NaN"),
        ({"image_std": 0}, "image_std is 0"),
        ({"image_std": [0.1, 0.1, 0]}, "image_std"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"do_rescale": "no"}, 'do_rescale is "no"'),
        ({"do_resize": False}, "do_resize is false, expected true"),
        ({"do_resize": 1}, "do_resize is 1"),
        ({"cap_pixels_per_frame": True}, "cap_pixels_per_frame is true, expected false"),
        ({"do_center_crop": True}, "do_center_crop is true"),
        ({"do_convert_rgb": False}, "do_convert_rgb is false"),
        ({"resample": 2}, "resample is 2, expected 3"),
    ],
    ids=str,
)
def test_what_cannot_be(tmp_path, given, message):
    with pytest.raises(ConfigurationError) as caught:
        picture_settings(given, "a call")
    assert message in str(caught.value) and str(caught.value).startswith("a call: ")
    write(tmp_path, processor_config={"image_processor": given})
    with pytest.raises(ConfigurationError, match=r"processor_config\.json: "):
        read_picture_settings(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"), [({"patch_size": 16}, 14), ({"temporal_patch_size": 3}, 2), ({"merge_size": 4}, 2)], ids=str
)
def test_settings_are_the_model_s(tmp_path, given, expected):
    write(tmp_path, preprocessor_config=given, config=CONFIG)
    with pytest.raises(ConfigurationError, match=rf"is \d+, expected {expected}, as config\.json says"):
        read_picture_settings(tmp_path)
    write(tmp_path, preprocessor_config={}, video_preprocessor_config=given)
    with pytest.raises(ConfigurationError, match=r"video_preprocessor_config\.json"):
        read_picture_settings(tmp_path)
