import base64
import io
import subprocess
import sys

import media_samples as samples
import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.errors import MediaError, PromptError
from paddlemix_qwenvl.media import Video, preprocess_images, preprocess_videos, process_vision_info

GOLDEN = np.load(samples.GOLDEN)


def user(*elements: dict) -> list[dict]:
    return [{"role": "user", "content": [*elements, {"type": "text", "text": "What is this?"}]}]


def opaque(element: dict) -> dict:
    """qwen_vl_utils lays RGBA on white and drops the transparency of other modes, which here lies on white as well."""
    image = element.get("image")
    if image is None or image.mode not in ("LA", "P"):
        return element
    return {**element, "image": Image.fromarray(np.asarray(image.convert("RGB")))}


def test_images_are_those_of_qwen_vl_utils():
    elements = [opaque(element) for element in samples.image_elements()]
    images, videos = process_vision_info(user(*elements))
    assert videos is None
    for number, (image, element) in enumerate(zip(images, elements, strict=True)):
        assert image.mode == "RGB"
        assert image.size == tuple(GOLDEN[f"messages/image/{number}/size"])
        np.testing.assert_allclose(samples.summary(image), GOLDEN[f"messages/image/{number}"], atol=1e-4)
        assert image.info == {"original_size": element.get("image", element.get("image_url")).size}
    output = preprocess_images(images, max_pixels=samples.MAX_PIXELS)
    assert output["original_sizes"][0] == (301, 200)
    assert output["resized_sizes"][0] == images[0].size


def test_lists_of_frames_are_videos_as_in_qwen_vl_utils():
    elements = samples.frame_list_elements()
    images, videos, kwargs = process_vision_info(user(*elements), return_video_kwargs=True)
    assert images is None
    assert kwargs == {"fps": [2.0, 4.0, 2.0, 2.0]}
    for number, video in enumerate(videos):
        assert np.asarray(video).shape == tuple(GOLDEN[f"messages/video/{number}/shape"])
        difference = np.abs(samples.summary(video.frames) - GOLDEN[f"messages/video/{number}"])
        assert difference.max() <= 1  # a level of 255, where two roundings disagree
        assert difference.mean() < 0.05
    assert videos[0].original_size == (200, 130)
    assert videos[1].timestamps.tolist() == [0, 0.25, 0.5, 0.75]
    assert len(videos[0]) == 6
    assert np.array_equal(videos[0].frames[4], videos[0].frames[5])


def test_the_pieces_of_several_conversations_come_in_order():
    pictures = [samples.picture("RGB", 56, 28 * n) for n in (2, 3, 4)]
    first = user({"type": "image", "image": pictures[0]}, {"type": "image", "image": pictures[1]})
    answer = [{"role": "assistant", "content": "A cat."}, {"role": "tool", "tool_calls": []}]
    second = user({"type": "image_url", "image_url": {"url": as_uri(pictures[2])}})
    images, _ = process_vision_info([[{"role": "system", "content": "Be brief."}, *first, *answer], second])
    assert [image.size for image in images] == [(56, 56), (56, 84), (56, 112)]
    assert np.array_equal(images[2], pictures[2])
    assert process_vision_info(user()) == (None, None)
    assert process_vision_info(user(), return_video_kwargs=True) == (None, None, {"fps": []})


def as_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_exif_rotation_is_applied_and_reported():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    samples.picture("RGB", 112, 56).save(file, "PNG", exif=exif)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    images, _ = process_vision_info(user({"type": "image", "image": uri}))
    assert images[0].size == images[0].info["original_size"] == (56, 112)
    assert np.array_equal(images[0], np.rot90(samples.picture("RGB", 112, 56), k=3))
    assert preprocess_images(images)["resized_sizes"] == [(56, 112)]


def test_arrays_are_pictures_and_videos():
    frames = np.stack([samples.texture(140, 84, 3, seed) for seed in range(4)])
    elements = {"type": "image", "image": frames[0] / 255}, {"type": "video", "video": frames, "sample_fps": 1}
    images, videos = process_vision_info(user(*elements))
    assert images[0].info["original_size"] == videos[0].original_size == (140, 84)
    assert videos[0].frames.dtype == np.uint8
    output = preprocess_videos(videos)
    assert output["video_original_sizes"] == [(140, 84)]
    assert output["video_resized_sizes"] == [videos[0].frames.shape[:1:-1]]
    assert output["video_grid_thw"][0, 0] == 2


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "Messages are a list"),
        (["hello"], "A message is"),
        (user("hello"), "An element of content is"),
        (user({"type": "image"}), "names no media"),
        (user({"type": "video", "video": None}), "names no media"),
    ],
)
def test_messages_of_another_form_are_refused(messages, message):
    with pytest.raises(PromptError, match=message):
        process_vision_info(messages)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"image": "nowhere.png"}, "nowhere.png: No such file"),
        ({"image": Image.new("RGB", (30, 30)), "min_pixels": 0}, "min_pixels=0: expected a number over 0"),
        ({"image": Image.new("RGB", (30, 30)), "max_pixels": 784}, "is over max_pixels"),
        ({"image": Image.new("RGB", (10, 2001))}, "aspect ratio over 200"),
        ({"image_url": {}}, "NoneType is no picture"),
        ({"video": []}, "at least one frame"),
        ({"video": 3}, "3: expected a list of frames or an array"),
        ({"video": np.zeros((30, 30, 3))}, r"shape \(30, 30, 3\) .*: expected a list of frames or an array"),
        ({"video": [Image.new("RGB", (30, 30))], "sample_fps": "2"}, "sample_fps='2': expected a number over 0"),
        ({"video": ["nowhere.png"]}, "nowhere.png: No such file"),
        ({"video": "nowhere.mp4"}, "nowhere.mp4: No such file"),
        ({"video": "nowhere.mp4", "fps": 0}, "fps=0: expected a number over 0"),
    ],
)
def test_media_that_cannot_be_used_are_refused(element, message):
    with pytest.raises(MediaError, match=message):
        process_vision_info(user(element))


def test_arguments_are_those_of_the_newest_qwen_vl_utils():
    frames = [samples.picture("RGB", 84, 56)] * 3
    messages = user({"image": frames[0]}, {"video": frames, "sample_fps": 2, "raw_fps": 10})
    (image,), ((video, metadata),), options = process_vision_info(messages, True, True, 16)
    assert image.size == (96, 64) and video.frames.shape[0] == 4
    assert metadata == {"fps": 10.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 20}
    assert options == {}
    assert process_vision_info(conversations=messages, return_video_metadata=True)[1][0][1] == metadata


def test_a_list_of_paths_and_data_uris_is_a_video(tmp_path):
    picture = samples.picture("RGB", 84, 56)
    picture.save(tmp_path / "a.png")
    _, (video,) = process_vision_info(user({"video_url": [str(tmp_path / "a.png"), as_uri(picture)]}))
    assert np.array_equal(video.frames[0], video.frames[1])


def test_limits_are_handed_on():
    with pytest.raises(MediaError, match="over the cap of 99"):
        process_vision_info(user({"image": Image.new("RGB", (10, 10))}), max_image_pixels=99)
    with pytest.raises(MediaError, match="over the cap of 99"):
        process_vision_info(user({"video": [Image.new("RGB", (10, 10))]}), max_image_pixels=99)


def test_importing_media_imports_no_framework_and_no_decoder():
    code = "import sys, paddlemix_qwenvl.media; print({'paddle', 'paddlenlp', 'torch', 'av', 'tqdm'} & {*sys.modules})"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert output.stdout == "set()\n"


def test_a_video_that_is_there_already():
    """Its repr fits the one line of an error."""
    frames = np.zeros((4, 3, 28, 28), np.uint8)
    video = Video(frames, 2.0, np.arange(4) / 2, np.arange(4), (28, 28))
    content = [{"type": "video", "video": video, "fps": 1}, {"type": "text", "text": "?"}]
    _, (found,) = process_vision_info([{"role": "user", "content": content}])
    assert found is video
    assert repr(video) == "Video(fps=2.0, original_size=(28, 28), original_fps=None)"
