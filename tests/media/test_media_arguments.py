import media_samples as samples
import numpy as np
import pytest
from PIL import Image

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media import Video, preprocess_videos, process_vision_info
from paddlemix_qwenvl.media.arguments import flat_images, flat_videos

A, B, C = (samples.picture("RGB", 60, 40 + n) for n in range(3))
FRAMES = np.stack([samples.texture(60, 40, 3, seed) for seed in range(4)])
PICTURES = [Image.fromarray(frame) for frame in FRAMES]
FILM = Video(FRAMES.transpose(0, 3, 1, 2), 4.0, np.arange(4) / 4, np.arange(4), (600, 400), 8.0)


@pytest.mark.parametrize(
    "given", [[A, B, C], (A, B, C), [[A, B], [C]], [[A], [B, C]], [[], [A, B, C], []], [(A,), [[B]], C]]
)
def test_images_nested_by_prompt_come_in_order(given):
    found = flat_images(given)
    assert [image.size for image in found] == [(60, 40), (60, 41), (60, 42)]
    assert found[0] is A


def test_images_alone_and_in_arrays():
    assert flat_images(None) == flat_images([]) == []
    assert flat_images("a.png") == ["a.png"]
    assert [image.shape for image in flat_images(FRAMES)] == 4 * [(40, 60, 3)]
    assert [image.shape for image in flat_images([FRAMES[:2], FRAMES[0]])] == 3 * [(40, 60, 3)]


@pytest.mark.parametrize(
    "given",
    [
        PICTURES,
        [PICTURES],
        [[PICTURES]],
        tuple(PICTURES),
        FRAMES,
        FRAMES.transpose(0, 3, 1, 2),
        [FRAMES],
        [[FRAMES]],
        FRAMES[None],
        list(FRAMES),
        [list(FRAMES)],
        [list(FRAMES.transpose(0, 3, 1, 2))],
        FILM,
        [FILM],
        [[FILM], []],
        (FILM, FILM.metadata),
        [(FILM, FILM.metadata)],
        [[(FILM, FILM.metadata)]],
    ],
    ids=lambda given: type(given).__name__,
)
def test_one_video_in_every_form(given):
    wanted = preprocess_videos([FILM])["pixel_values_videos"]
    videos = flat_videos(given)
    assert len(videos) == len(flat_videos(videos)) == 1
    assert np.array_equal(preprocess_videos(videos)["pixel_values_videos"], wanted)


def test_videos_nested_by_prompt_come_in_order(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path, picture in zip(paths, PICTURES, strict=False):
        picture.save(path)
    videos = flat_videos([[PICTURES, FILM], [], [paths, FRAMES[:2]]])
    assert [len(video) for video in videos] == [4, 4, 3, 2]
    assert videos[1] is FILM
    assert preprocess_videos(videos)["video_grid_thw"][:, 0].tolist() == [2, 2, 2, 1]
    assert [len(video) for video in flat_videos([PICTURES[:1], PICTURES[:2]])] == [1, 2]
    assert flat_videos(None) == flat_videos([]) == []


def test_frames_of_pillow_lie_on_white():
    frame = Image.new("LA", (60, 40))
    for given in ([frame], [[frame]], [[[frame]]]):
        assert np.asarray(flat_videos(given)[0][0]).min() == 255


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.mp4", "a.mp4: expected a list of frames .*; a video file is sampled by load_video"),
        (["a.mp4", "b.mp4"], "a.mp4: expected a list of frames"),
        (A, "PIL image RGB 60 x 40: expected a list of frames"),
        (FRAMES[0], r"array of shape \(40, 60, 3\) and type uint8: expected a list of frames"),
        (3, "3: expected a list of frames"),
        ([["a.mp4"]], "a.mp4: No such file"),
        ((FRAMES, {"fps": 2}), r"array of shape .* came beside its metadata; give the frames alone, and fps=\.\.\."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_video_is_refused(given, message):
    with pytest.raises(MediaError, match=message):
        preprocess_videos(flat_videos(given))


def test_the_processor_takes_them(processor):
    def call(**media):
        return processor(text=["<|image_pad|>" * 2 + "<|video_pad|>", "<|image_pad|>"], return_tensors="np", **media)

    wanted = call(images=[A, B, C], videos=[FILM])
    clear = [Image.merge("RGBA", (*image.split(), Image.new("L", image.size, 255))) for image in (A, B, C)]
    content = [{"type": "video", "video": PICTURES, "sample_fps": 4}]
    _, pairs = process_vision_info([{"role": "user", "content": content}], return_video_metadata=True)
    for images, videos in (([[A, B], [C]], [[FILM], []]), (clear, [(FILM, FILM.metadata)])):
        found = call(images=images, videos=videos)
        assert {name: values.tolist() for name, values in found.items() if hasattr(values, "tolist")} == {
            name: values.tolist() for name, values in wanted.items() if hasattr(values, "tolist")
        }
    assert call(images=[A, B, C], videos=pairs)["second_per_grid_ts"].tolist() == [0.5]
