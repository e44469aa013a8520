import media_samples as samples
import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import preprocess_images, preprocess_videos
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD

GOLDEN = np.load(samples.GOLDEN)
HUB = {"min_pixels": samples.MIN_PIXELS, "max_pixels": samples.MAX_PIXELS}


def check(name: str, output: dict) -> None:
    assert np.array_equal(output["image_grid_thw"], GOLDEN[f"{name}/grid"])
    assert output["image_grid_thw"].dtype == np.int64
    assert output["pixel_values"].dtype == np.float32
    assert output["pixel_values"].shape == (output["image_grid_thw"].prod(), 1176)
    np.testing.assert_allclose(samples.summary(output["pixel_values"]), GOLDEN[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", samples.KINDS)
def test_pictures_of_every_mode_and_size_equal_the_reference(kind):
    pictures = [samples.picture(kind, width, height) for width, height in samples.SIZES]
    for (width, height), picture in zip(samples.SIZES, pictures, strict=True):
        check(f"patches/{kind} {width}x{height}", preprocess_images([picture], **HUB))
    together = preprocess_images(pictures, **HUB)
    assert together["original_sizes"] == samples.SIZES
    one_by_one = [preprocess_images([picture], **HUB)["pixel_values"] for picture in pictures]
    assert np.array_equal(together["pixel_values"], np.concatenate(one_by_one))
    grids = [GOLDEN[f"patches/{kind} {width}x{height}/grid"][0] for width, height in samples.SIZES]
    assert together["resized_sizes"] == [(14 * w, 14 * h) for _, h, w in grids]


@pytest.mark.parametrize("kind", samples.ARRAYS)
def test_arrays_equal_the_reference(kind):
    array = samples.array(kind, 100, 63)
    if kind.endswith(" 1"):
        with pytest.warns(UserWarning, match="do_rescale=False"):
            check(f"patches/{kind} 100x63", preprocess_images([array], **HUB))
        check(f"patches/{kind} 100x63 unscaled", preprocess_images([array], do_rescale=False, **HUB))
    else:
        check(f"patches/{kind} 100x63", preprocess_images([array], **HUB))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_videos_equal_the_reference(frames):
    arrays = [samples.texture(99, 70, 3, seed) for seed in range(frames)]
    stacked = np.stack(arrays)
    for video in (arrays, stacked, stacked.transpose(0, 3, 1, 2), [Image.fromarray(array) for array in arrays]):
        output = preprocess_videos([video])
        assert np.array_equal(output["video_grid_thw"], GOLDEN[f"video/{frames}/grid"])
        values = samples.summary(output["pixel_values_videos"])
        np.testing.assert_allclose(values, GOLDEN[f"video/{frames}"], atol=1e-5, rtol=0)
        assert output["video_original_sizes"] == [(99, 70)]
        assert output["video_resized_sizes"] == [(112, 56)]


def test_a_resized_picture_reports_the_size_that_the_user_gave():
    picture = samples.picture("RGB", 280, 140)
    picture.info["original_size"] = (1999, 1001)
    assert preprocess_images([picture])["original_sizes"] == [(1999, 1001)]
    picture.info["original_size"] = "a text in a PNG"
    assert preprocess_images([picture])["original_sizes"] == [(280, 140)]


def test_a_path_is_loaded(tmp_path):
    picture = samples.picture("RGB", 100, 63)
    picture.save(tmp_path / "a.png")
    check("patches/RGB 100x63", preprocess_images([tmp_path / "a.png"], **HUB))


def test_settings_of_the_preprocessor_config_are_heeded():
    picture = samples.picture("RGB", 96, 64)
    output = preprocess_images(
        [picture], patch_size=8, merge_size=4, temporal_patch_size=3, image_mean=0.0, image_std=(1, 1, 0.5)
    )
    assert output["image_grid_thw"].tolist() == [[1, 8, 12]]
    cells = output["pixel_values"].reshape(2, 3, 4, 4, 3, 3, 8, 8)  # rows, columns of 32 x 32, cells, channel, time
    pixels = np.asarray(picture, dtype=np.float32) / 255 * [1, 1, 2]
    for row, column, y, x in [(0, 0, 0, 0), (1, 2, 3, 1), (0, 1, 2, 3)]:
        top, left = 32 * row + 8 * y, 32 * column + 8 * x
        expected = pixels[top : top + 8, left : left + 8].transpose(2, 0, 1)
        for time in range(3):
            np.testing.assert_allclose(cells[row, column, y, x, :, time], expected, atol=1e-6)


def test_no_pictures_give_no_patches():
    output = preprocess_images([])
    assert output["pixel_values"].shape == (0, 1176)
    assert output["image_grid_thw"].shape == (0, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros((5, 5, 2), np.uint8), r"\[H, W, C\]"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"\[H, W, C\]"),
        (np.full((30, 30, 3), 65536), "from 65536 to 65536"),
        (np.full((30, 30, 3), -0.5), "whole numbers from 0 to 255"),
        (np.full((30, 30, 3), np.nan), "whole numbers from 0 to 255"),
        (np.full((30, 30, 3), "a"), "expected numbers"),
        (Image.new("RGB", (0, 30)), "empty"),
        (Image.new("RGB", (30, 6001)), "aspect ratio over 200"),
        (Image.new("La", (30, 30)), "not supported"),
        (3, "int is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(bad, message):
    with pytest.raises(MediaError, match=message):
        preprocess_images([bad])


def test_videos_without_frames_or_not_yet_sampled_are_refused():
    with pytest.raises(MediaError, match="without frames"):
        preprocess_videos([[]])
    with pytest.raises(MediaError, match=r"a.mp4: .*load_video"):
        preprocess_videos(["a.mp4"])


def test_values_are_those_of_the_definition_to_the_last_bit():
    """float32 of the value times 1 / 255, minus the mean, over the deviation; patches in the order of the merger's cells."""
    frames = [samples.texture(112, 84, 3, seed) for seed in range(3)]
    mean, deviation = np.float32(IMAGE_MEAN), np.float32(IMAGE_STD)
    values = [((frame * (1 / 255)).astype(np.float32) - mean) / deviation for frame in [*frames, frames[-1]]]
    cells = np.stack(values).reshape(2, 2, 3, 2, 14, 4, 2, 14, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    assert np.array_equal(preprocess_videos([frames])["pixel_values_videos"], cells.reshape(-1, 1176))


def test_pictures_stay_as_they_were():
    """A picture that is taken without a copy is not written to."""
    for size in ((112, 84), (130, 90)):  # as it is, and to be resized
        picture = Image.fromarray(samples.texture(*size, 3))
        before = picture.tobytes()
        preprocess_images([picture])
        assert picture.tobytes() == before and picture.size == size
