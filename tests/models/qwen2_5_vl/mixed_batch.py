"""Prompts with text, images and videos as rows of a padded batch, and each row alone."""

from dataclasses import dataclass, field

import hub_model
import numpy as np
import paddle

IMAGE, VIDEO = hub_model.IDS["<|image_pad|>"], hub_model.IDS["<|video_pad|>"]
PAD = hub_model.IDS["<|endoftext|>"]
DRAWS = np.random.default_rng(11)


@dataclass
class Row:
    """A prompt: `ids`, and of its images and videos the patches and grids, of its videos the seconds a step."""

    ids: list[int]
    images: list[tuple] = field(default_factory=list)
    videos: list[tuple] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def text(count: int) -> list[int]:
    return DRAWS.integers(1, 250, count).tolist()


def media(grid) -> tuple[np.ndarray, list[int]]:
    return DRAWS.standard_normal((int(np.prod(grid)), 1176)).astype(np.float32), list(grid)


def places(token: int, grid) -> list[int]:
    return [token] * (int(np.prod(grid)) // 4)


TEXT = Row(text(4))
ONE_IMAGE = Row([*text(2), *places(IMAGE, (1, 6, 10)), *text(3)], [media((1, 6, 10))])
THREE_IMAGES = Row(
    [*places(IMAGE, (1, 2, 2)), *text(1), *places(IMAGE, (1, 4, 8)), *places(IMAGE, (1, 6, 2)), *text(2)],
    [media((1, 2, 2)), media((1, 4, 8)), media((1, 6, 2))],
)
CLIP = Row([*text(1), *places(VIDEO, (3, 4, 6)), *text(2)], videos=[media((3, 4, 6))], seconds=[1.7])
BOTH = Row(
    [*places(VIDEO, (1, 4, 4)), *text(1), *places(IMAGE, (1, 4, 6)), *text(1), *places(VIDEO, (2, 2, 6)), *text(1)],
    [media((1, 4, 6))],
    [media((1, 4, 4)), media((2, 2, 6))],
    [1.0, 0.4],
)
ROWS = {"text": TEXT, "one image": ONE_IMAGE, "three images": THREE_IMAGES, "a video": CLIP, "both": BOTH}


def batch(rows: list[Row], side: str = "left") -> dict:
    """What the model takes, padded on `side`."""
    width = max(len(row.ids) for row in rows)
    gaps = [[PAD] * (width - len(row.ids)) for row in rows]
    pad = (lambda gap, real: gap + real) if side == "left" else (lambda gap, real: real + gap)
    given = {
        "input_ids": np.array([pad(gap, row.ids) for gap, row in zip(gaps, rows, strict=True)]),
        "attention_mask": np.array([pad([0] * len(g), [1] * len(r.ids)) for g, r in zip(gaps, rows, strict=True)]),
    }
    images, videos = ([item for row in rows for item in kind(row)] for kind in (lambda r: r.images, lambda r: r.videos))
    for found, values, grids in (
        (images, "pixel_values", "image_grid_thw"),
        (videos, "pixel_values_videos", "video_grid_thw"),
    ):
        if found:
            given |= {values: np.concatenate([v for v, _ in found]), grids: np.array([grid for _, grid in found])}
    if videos:
        given["second_per_grid_ts"] = np.array([s for row in rows for s in row.seconds], np.float32)
    return {name: paddle.to_tensor(value) for name, value in given.items()}


def real_logits(logits, rows: list[Row], side: str = "left") -> list[np.ndarray]:
    """Of each row of `[B, S, vocab]` the part that is no padding; asserts that padding is zero."""
    found = []
    for row, values in zip(rows, logits.numpy(), strict=True):
        count = len(row.ids)
        real = values[-count:] if side == "left" else values[:count]
        rest = values[:-count] if side == "left" else values[count:]
        assert (rest == 0).all()
        found.append(real)
    return found


def literal_logits(model, row: Row) -> np.ndarray:
    """Of a `NumpyModel`."""
    images, videos = (
        (np.concatenate([v for v, _ in found]), [grid for _, grid in found]) if found else None
        for found in (row.images, row.videos)
    )
    return model.logits(row.ids, images, videos, row.seconds or None)
