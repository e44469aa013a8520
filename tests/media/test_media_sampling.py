import media_samples as samples
import numpy as np
import pytest

from paddlemix_qwenvl.errors import MediaError
from paddlemix_qwenvl.media.sampling import Timeline, check_numbers, frame_size, sample

GOLDEN = np.load(samples.GOLDEN)


def even(frames: int, fps: float) -> Timeline:
    return Timeline(np.arange(frames) / fps, fps)


def test_frames_are_those_of_qwen_vl_utils():
    counts, rates, indices = GOLDEN["sampling/counts"], iter(GOLDEN["sampling/fps"]), GOLDEN["sampling/indices"]
    refused = start = 0
    for (element, total, fps), count in zip(samples.sampling_cases(), counts, strict=True):
        if count < 0:
            with pytest.raises(MediaError, match=r"frames were asked for|leave no two frames"):
                sample(element, even(total, fps))
            refused += 1
            continue
        positions, rate = sample(element, even(total, fps))
        assert positions.tolist() == indices[start : start + count].tolist(), (element, total, fps)
        assert rate == pytest.approx(next(rates), rel=1e-12)
        start += count
    assert start == len(indices)
    assert 0 < refused < 100


def test_frame_sizes_are_those_of_qwen_vl_utils():
    for (element, *shape), expected in zip(samples.frame_size_cases(), GOLDEN["sizes/frames"].tolist(), strict=True):
        if expected == [0, 0]:
            with pytest.raises(MediaError, match="is over max_pixels"):
                frame_size(element, *shape, factor=28)
        else:
            assert list(frame_size(element, *shape, factor=28)) == np.maximum(expected, 28).tolist(), (element, shape)


def test_a_video_of_one_frame_gives_it_twice():
    positions, rate = sample({}, even(1, 25.0))
    assert positions.tolist() == [0, 0]
    assert rate == 50.0  # two frames fill one grid step, which lasts as long as the frame does


def test_more_frames_than_there_are():
    with pytest.raises(MediaError, match=r"12 frames were asked for; .* can give 2 to 10"):
        sample({"nframes": 12}, even(10, 5.0))
    with pytest.raises(MediaError, match=r"2 frames were asked for; .* can give 2 to 1"):
        sample({"nframes": 2}, even(1, 5.0))
    with pytest.raises(MediaError, match=r"0 frames were asked for; .* can give 2 to 10, an even number"):
        sample({"nframes": 1}, even(10, 5.0))
    assert sample({"fps": 100}, even(10, 5.0))[0].tolist() == list(range(10))


def test_both_fps_and_nframes():
    with pytest.raises(MediaError, match="Both fps and nframes"):
        sample({"fps": 1, "nframes": 4}, even(10, 5.0))


def test_with_a_varying_frame_rate_the_range_follows_the_frames_own_times():
    times = np.concatenate([np.arange(100) * 0.1, 10 + np.arange(10.0)])  # 10 s at 10 a second, then 10 s at 1
    timeline = Timeline(times, 110 / 20)
    assert not timeline.is_even
    positions, rate = sample({"video_start": 12, "video_end": 18, "nframes": 4}, timeline)
    assert times[positions].tolist() == [12, 14, 16, 18]
    assert rate == pytest.approx(4 / 7)  # 7 frames at 1 a second, 4 of them taken
    whole, _ = sample({"nframes": 10}, timeline)
    assert whole.tolist() == np.linspace(0, 109, 10).round().astype(int).tolist()
    with pytest.raises(MediaError, match="leave no two frames"):
        sample({"video_start": 12.2, "video_end": 13.1}, timeline)


@pytest.mark.parametrize(
    "element",
    [
        *({"fps": 0}, {"fps": -1.0}, {"fps": float("nan")}, {"nframes": "8"}, {"max_frames": 0}),
        *({"min_pixels": [1]}, {"resized_height": 0}, {"total_pixels": -1}, {"video_start": "1:00"}),
        {"video_end": float("inf")},
    ],
)
def test_settings_that_are_no_numbers_or_not_over_zero(element):
    key = next(iter(element))
    with pytest.raises(MediaError, match=f"{key}=.*: expected a number"):
        check_numbers(element)
