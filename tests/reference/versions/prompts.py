"""What both sides ask of each folder: prompts with odd pictures and with a video. Plain data; needs neither PyTorch nor Paddle.

Of the video, what all versions do alike: it needs no resizing, which newer ones leave to torchvision; a temporal patch takes whole
seconds, which 4.57 cuts them to; and it is wider than long, as 5 counts on from its width and height alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

CHECKPOINTS = ("tied", "windows", "qwen2_vl_tied", "heads")  # of make_reference.py; the last one is saved in shards
CLEAR_GAP = 5e-4  # least gap between the best two logits of a greedy step, relative to the largest logit
TOKENS, LEAST_TOKENS = 16, 4
TOLERANCES = {"pixel_values": 1e-5, "pixel_values_videos": 1e-5, "second_per_grid_ts": 1e-6, "logits": 1e-4}


@dataclass
class Prompt:
    """A conversation and its media: pictures, or the frames of a video, which need no resizing."""

    name: str
    messages: list[dict]
    images: list[Image.Image]
    frames: np.ndarray | None = None
    fps: float = 2.0


def every_prompt() -> Iterator[Prompt]:
    draws = np.random.RandomState(5)
    pictures = [
        Image.fromarray(draws.randint(0, 256, (height, width, 3), np.uint8))
        for width, height in ((97, 211), (31, 29), (333, 100))
    ]
    parts = [{"type": "image"}, {"type": "text", "text": "Compare 图 <b> "}, {"type": "image"}, {"type": "image"}]
    yield Prompt("pictures", [{"role": "system", "content": "S"}, {"role": "user", "content": parts}], pictures)
    frames = draws.randint(0, 256, (5, 56, 224, 3), np.uint8)
    parts = [{"type": "video"}, {"type": "text", "text": "what happens? é"}]
    yield Prompt("film", [{"role": "user", "content": parts}], [], frames)


def largest_differences(found: dict, expected: dict, prompt: str) -> str:
    """Says by how much each array differs. Raises AssertionError for more than `TOLERANCES`, 0 where it names none."""
    said, count = [], 0
    for key in (key for key in expected if key.startswith(f"{prompt}/")):
        name = key.partition("/")[2]
        one, other = np.asarray(found[name]), expected[key]
        if name == "tokens":  # either side may have stopped at a near tie
            count = min(one.shape[1], other.shape[1])
            one, other = one[:, :count], other[:, :count]
        if name == "text" or not np.issubdtype(other.dtype, np.floating):
            assert np.array_equal(one, other), f"{key}: {one} is not {other}"
            continue
        assert one.shape == other.shape, f"{key}: {one.shape} is not {other.shape}"
        apart = float(np.abs(one - other).max()) / (float(np.abs(other).max()) if name == "logits" else 1.0)
        assert apart <= TOLERANCES.get(name, 0), f"{key}: {apart:.1e} apart"
        said.append(f"{name} {apart:.0e}")
    assert said and count >= LEAST_TOKENS, f"{prompt}: {count} tokens could be compared"
    return f"same text, ids and {count} tokens; {', '.join(said)}"
