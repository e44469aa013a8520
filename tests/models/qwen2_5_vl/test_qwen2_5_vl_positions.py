"""Windows, bounds and positions against literal re-derivations, one patch and one token at a time."""

import numpy as np
import pytest
from numpy_model import patch_places, token_positions

from paddlemix_qwenvl.errors import MediaError, PromptError
from paddlemix_qwenvl.models.qwen2_5_vl.positions import rope_index, vision_layout

GRIDS = [
    [[1, 2, 2]],
    [[1, 8, 8]],
    [[1, 16, 24]],
    [[1, 6, 10]],
    [[1, 2, 34], [1, 34, 2]],
    [[3, 4, 6]],
    [[2, 10, 6], [1, 2, 2], [4, 8, 4]],
    [[1, 40, 114]],
]


def windowed(grids, window: int, merge: int):
    """For every patch (image, frame, row, column) in window order, its number in processor order and its window's name."""
    places = [place for i, grid in enumerate(grids) for place in patch_places(i, grid, merge)]
    side = window * merge
    named = [((i, t, r // side, c // side), n) for n, (i, t, r, c) in enumerate(places)]
    ordered = sorted(
        named, key=lambda entry: entry[0]
    )  # within a window the processor's order stays: sorting is stable
    return places, ordered


@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
@pytest.mark.parametrize("grids", GRIDS, ids=str)
def test_windows(grids, window, merge):
    layout = vision_layout(np.array(grids), window, merge)
    places, ordered = windowed(grids, window, merge)
    assert layout.order.tolist() == [number for _, number in ordered]
    assert layout.positions.tolist() == [list(places[number][2:]) for _, number in ordered]
    starts = [i for i, (name, _) in enumerate(ordered) if i == 0 or ordered[i - 1][0] != name]
    assert layout.cu_window_seqlens.tolist() == [*starts, len(places)]
    frames = [places[number][:2] for _, number in ordered]
    starts = [i for i, frame in enumerate(frames) if i == 0 or frames[i - 1] != frame]
    assert layout.cu_seqlens.tolist() == [*starts, len(places)]
    assert (layout.cu_seqlens.dtype, layout.cu_window_seqlens.dtype) == (np.int32, np.int32)
    assert (layout.order.dtype, layout.restore.dtype, layout.positions.dtype) == (np.int64, np.int64, np.float32)
    merged = layout.order.reshape(-1, merge**2)[:, 0] // merge**2  # the token at each place
    assert merged[layout.restore].tolist() == list(range(len(merged)))


def test_a_square_of_patches_stays_together():
    """What becomes one token has to be neighbours in the windowed sequence too."""
    layout = vision_layout(np.array([[1, 6, 10]]), 2, 2)
    squares = layout.order.reshape(-1, 4)
    assert (squares == squares[:, :1] + np.arange(4)).all() and (squares[:, 0] % 4 == 0).all()


@pytest.mark.parametrize("grid", [[1, 3, 4], [1, 4, 5]], ids=str)
def test_grids_that_cannot_be_merged(grid):
    with pytest.raises(MediaError, match=r"whole squares of 2 x 2 patches"):
        vision_layout(np.array([grid]), 4, 2)


IMAGE, VIDEO = 101, 102


def index(rows, mask=None, images=None, videos=None, seconds=None, speed=2, merge=2):
    mask = np.ones_like(rows) if mask is None else np.array(mask)
    model = {"image_token_id": IMAGE, "video_token_id": VIDEO, "merge": merge, "tokens_per_second": speed}
    media = {"image_grid_thw": images, "video_grid_thw": videos, "second_per_grid_ts": seconds}
    return rope_index(np.array(rows), mask, **model, **media)


def test_text_counts_up():
    positions, deltas = index([[5, 6, 7, 8]])
    assert positions.tolist() == [[[0, 1, 2, 3]]] * 3 and deltas.tolist() == [[0]]


def test_an_image_by_hand():
    """2 x 3 tokens after two of text: rows and columns count from 2, what follows goes on after the largest, 4."""
    positions, deltas = index([[1, 2, *[IMAGE] * 6, 3]], images=[[1, 4, 6]])
    assert positions[:, 0].tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert deltas.tolist() == [[6 - 9]]


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        (1.0, [0, 2, 4]),
        (0.5, [0, 1, 2]),
        (0.4, [0, 0, 1]),
        (2 / 29.97, [0, 0, 0]),
        (1.26, [0, 2, 5]),
        (None, [0, 2, 4]),
    ],
    ids=str,
)
def test_a_videos_time_goes_by_its_seconds(seconds, times):
    row = [9, *[VIDEO] * 6, 9]
    positions, deltas = index([row], videos=[[3, 2, 4]], seconds=None if seconds is None else [seconds])
    assert positions[0, 0].tolist() == [0, *(1 + time for time in times for _ in range(2)), 1 + max(*times, 1) + 1]
    assert positions[1, 0, 1:7].tolist() == [1] * 6
    assert positions[2, 0, 1:7].tolist() == [1, 2] * 3
    assert deltas[0, 0] == positions.max() + 1 - len(row)


def test_time_is_cut_in_float32_as_the_original_cuts_it():
    """0.7 x 10 is 7 in float32 and just under it in float64; frame 5 of 0.2 s at 5 a second likewise sits on the edge."""
    for seconds, speed, frames in ((0.7, 10, 4), (0.1, 10, 30), (1 / 3, 3, 20), (0.04, 25, 60)):
        positions, _ = index([[VIDEO] * frames], videos=[[frames, 2, 2]], seconds=[seconds], speed=speed)
        steps = np.arange(frames).astype(np.float32) * np.float32(seconds) * np.float32(speed)
        assert positions[0, 0].tolist() == steps.astype(np.int64).tolist()


def batch(draws, width: int):
    """Random rows of text, images and videos with padding on random sides; their grids and seconds by row."""
    rows, masks, per_row = [], [], []
    for _ in range(4):
        ids, images, videos, seconds = [], [], [], []
        for _ in range(draws.integers(0, 4)):
            ids += draws.integers(1, 100, draws.integers(0, 5)).tolist()
            grid = [1, *(2 * draws.integers(1, 4, 2)).tolist()]
            if draws.random() < 0.5:
                images.append(grid)
                ids += [IMAGE] * (grid[1] * grid[2] // 4)
            else:
                grid[0] = int(draws.integers(1, 4))
                videos.append(grid)
                seconds.append(float(draws.choice([0.2, 0.5, 1.0, 1.7])))
                ids += [VIDEO] * (grid[0] * grid[1] * grid[2] // 4)
        ids += [7]
        left = int(draws.integers(0, width - len(ids) + 1)) if len(ids) <= width else 0
        right = width - len(ids) - left
        rows.append([0] * left + ids + [0] * right)
        masks.append([0] * left + [1] * len(ids) + [0] * right)
        per_row.append((ids, images, videos, seconds))
    return rows, masks, per_row


@pytest.mark.parametrize("seed", range(8))
def test_padded_batches_token_by_token(seed):
    draws = np.random.default_rng(seed)
    rows, masks, per_row = batch(draws, 120)
    images, videos, seconds = ([item for row in per_row for item in row[i]] for i in (1, 2, 3))
    positions, deltas = index(rows, masks, images or None, videos or None, seconds or None)
    assert positions.shape == (3, 4, 120) and deltas.shape == (4, 1)
    for i, (ids, row_images, row_videos, row_seconds) in enumerate(per_row):
        real = np.array(masks[i], bool)
        wanted = token_positions(np.array(ids), IMAGE, VIDEO, row_images, row_videos, row_seconds, 2, 2)
        assert positions[:, i, real].T.tolist() == wanted.tolist()
        assert (positions[:, i, ~real] == 1).all()
        assert deltas[i, 0] == wanted.max() + 1 - 120


def test_placeholders_that_look_like_padding_do_not_count():
    positions, _ = index([[IMAGE, 3, 4]], mask=[[0, 1, 1]])
    assert positions[:, 0].tolist() == [[1, 0, 1]] * 3


def test_two_images_side_by_side_are_two():
    positions, _ = index([[*[IMAGE] * 4, *[IMAGE] * 2]], images=[[1, 4, 4], [1, 2, 4]])
    assert positions[1, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert positions[2, 0].tolist() == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        ([[1, IMAGE, 2]], {}, r"more image placeholders than images"),
        ([[1, VIDEO, 2]], {"images": [[1, 2, 2]]}, r"more video placeholders than videos"),
        ([[IMAGE, 3, IMAGE]], {"images": [[1, 2, 2]]}, r"more image placeholders than images"),
        ([[IMAGE, 3]], {"images": [[1, 2, 2]] * 3}, r"2 image\(s\) were given that the text has no placeholder for"),
        ([[4, 3]], {"videos": [[1, 2, 2]]}, r"1 video\(s\) were given that the text has no placeholder for"),
        ([[IMAGE, IMAGE, 3]], {"images": [[1, 4, 4]]}, r"needs 4 placeholder tokens in a row but the text has 2"),
        ([[IMAGE, IMAGE, IMAGE]], {"images": [[1, 4, 4]]}, r"needs 4 placeholder tokens .* the text has 3"),
        ([[IMAGE, 3, IMAGE, IMAGE, IMAGE]], {"images": [[1, 4, 4]]}, r"needs 4 placeholder tokens .* the text has 1"),
        ([[VIDEO]], {"videos": [[1, 2, 2]], "seconds": [1.0, 2.0]}, r"1 videos came with 2 second_per_grid_ts"),
    ],
)
def test_text_and_grids_that_do_not_fit(rows, given, message):
    with pytest.raises(PromptError, match=message):
        index(rows, **given)


def test_too_few_tokens_is_found_in_any_row():
    with pytest.raises(PromptError, match=r"needs 4 placeholder tokens"):
        index([[9, 9, IMAGE, 9], [9, IMAGE, IMAGE, 9]], images=[[1, 2, 2], [1, 4, 4]])
