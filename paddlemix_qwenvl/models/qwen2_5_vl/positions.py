"""Where patches and tokens stand: windows of the vision tower and 3D positions of the language model. Plain NumPy.

Sources: Qwen2.5-VL technical report (arXiv:2502.13923), sections 2.1 and 2.2; `get_window_index`, `rot_pos_emb` and
`get_rope_index` of transformers 4.51.3 give the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlemix_qwenvl.errors import MediaError, PromptError
from paddlemix_qwenvl.media import content_key
from paddlemix_qwenvl.models.prompts import Media, Prompt, rows_of


@dataclass(frozen=True)
class VisionLayout:
    """Order and grouping of `N` patches of several images or videos.

    Attributes:
        order: int64 `[N]`, the patch (row of `pixel_values`) at each place of the windowed sequence.
        restore: int64 `[N / merge**2]`, the place of each merged token in the windowed sequence.
        positions: float32 `[N, 2]`, row and column of each patch of the windowed sequence.
        cu_seqlens: int32 `[frames + 1]`, bounds of full attention: one frame each.
        cu_window_seqlens: int32 `[windows + 1]`, bounds of window attention.
    """

    order: np.ndarray
    restore: np.ndarray
    positions: np.ndarray
    cu_seqlens: np.ndarray
    cu_window_seqlens: np.ndarray


def vision_layout(grid_thw, window: int, merge: int) -> VisionLayout:
    """Lay out the patches of `grid_thw` (`[images, 3]`: frames, rows, columns of patches).

    Args:
        window: side of an attention window in merged tokens (`window_size / merge / patch_size`).
        merge: side of the square of patches that becomes one token.

    Raises:
        MediaError: a grid is not made of such squares.
    """
    tokens, window_lengths, positions, frame_lengths, offset = [], [], [], [], 0
    for frames, height, width in np.asarray(grid_thw, np.int64).tolist():
        if height % merge or width % merge:
            raise MediaError(
                f"a grid of {height} x {width} patches does not fall into whole squares of {merge} x {merge} patches, which become "
                f"one token each: let the processor resize the picture."
            )
        rows, columns = height // merge, width // merge
        index = np.arange(rows * columns).reshape(rows, columns)
        windows = [
            index[top : top + window, left : left + window].ravel()
            for top in range(0, rows, window)
            for left in range(0, columns, window)
        ]
        frame = np.concatenate(windows)  # [rows * columns]
        starts = offset + np.arange(frames)[:, None] * frame.size
        tokens.append((starts + frame).ravel())
        window_lengths += [piece.size * merge * merge for piece in windows] * frames
        frame_lengths += [height * width] * frames
        inner = np.indices((merge, merge)).reshape(2, -1).T  # [merge**2, 2]
        corners = np.stack([frame // columns, frame % columns], -1) * merge
        positions.append(np.tile((corners[:, None] + inner).reshape(-1, 2), (frames, 1)))
        offset += frames * frame.size
    tokens = np.concatenate(tokens)
    unit = merge * merge
    restore = np.empty_like(tokens)
    restore[tokens] = np.arange(tokens.size)
    return VisionLayout(
        order=(tokens[:, None] * unit + np.arange(unit)).ravel(),
        restore=restore,
        positions=np.concatenate(positions).astype(np.float32),
        cu_seqlens=_bounds(frame_lengths),
        cu_window_seqlens=_bounds(window_lengths),
    )


def _bounds(lengths) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def rope_index(
    input_ids,
    attention_mask,
    *,
    image_token_id: int,
    video_token_id: int,
    merge: int,
    tokens_per_second: float,
    image_grid_thw=None,
    video_grid_thw=None,
    second_per_grid_ts=None,
):
    """3D positions (time, row, column) of the tokens of a padded batch.

    Text takes the same running number in all three; an image's or video's tokens spread over its grid, a video's time in steps of
    `second_per_grid_ts * tokens_per_second`. What follows continues after the largest position so far.

    Args:
        input_ids: int `[B, S]`.
        attention_mask: `[B, S]`, 1 for tokens and 0 for padding.

    Returns:
        `(positions int64 [3, B, S], deltas int64 [B, 1])`: padding has position 1; `delta` plus `S` is the next position of a row.

    Raises:
        PromptError: the placeholders in the text do not fit the grids.
    """
    ids, mask = np.asarray(input_ids), np.asarray(attention_mask).astype(bool)
    grids = _Grids(image_token_id, image_grid_thw, video_token_id, video_grid_thw, second_per_grid_ts)
    positions = np.ones((3, *ids.shape), np.int64)
    deltas = np.empty((ids.shape[0], 1), np.int64)
    for row in range(ids.shape[0]):
        row_positions = _row_positions(ids[row][mask[row]], grids, merge, tokens_per_second)
        positions[:, row, mask[row]] = row_positions
        deltas[row] = (row_positions.max() + 1 if row_positions.size else 0) - ids.shape[1]
    grids.check_all_used()
    return positions, deltas


def _row_positions(ids: np.ndarray, grids: _Grids, merge: int, tokens_per_second: float) -> np.ndarray:
    parts, start, position = [], 0, 0
    while True:
        vision = np.flatnonzero(np.isin(ids[start:], grids.token_ids))
        text = vision[0] if vision.size else ids.size - start
        parts.append(np.tile(np.arange(position, position + text), (3, 1)))
        start, position = start + text, position + text
        if not vision.size:
            return np.concatenate(parts, axis=1)
        token = int(ids[start])
        (frames, height, width), seconds = grids.take(token)
        rows, columns = height // merge, width // merge
        count = frames * rows * columns
        if start + count > ids.size or (ids[start : start + count] != token).any():
            found = int((np.cumprod(ids[start : start + count] == token)).sum())
            raise PromptError(
                f"an image or video needs {count} placeholder tokens in a row but the text has {found}: let the processor grow the "
                f"placeholders, and do not cut its input_ids."
            )
        grid = np.indices((frames, rows, columns)).reshape(3, -1)
        # As the original: float32 seconds, cut to whole steps.
        grid[0] = (grid[0].astype(np.float32) * np.float32(seconds) * np.float32(tokens_per_second)).astype(np.int64)
        parts.append(grid + position)
        start, position = start + count, int(parts[-1].max()) + 1


class _Grids:
    """Deals out the grids of images and videos in the order in which their placeholders come."""

    def __init__(self, image_token_id, image_grid_thw, video_token_id, video_grid_thw, second_per_grid_ts):
        images = [] if image_grid_thw is None else np.asarray(image_grid_thw).tolist()
        videos = [] if video_grid_thw is None else np.asarray(video_grid_thw).tolist()
        seconds = [1.0] * len(videos) if second_per_grid_ts is None else np.asarray(second_per_grid_ts).tolist()
        if len(seconds) != len(videos):
            raise PromptError(
                f"{len(videos)} videos came with {len(seconds)} second_per_grid_ts: give one for each video."
            )
        self.token_ids = [image_token_id, video_token_id]
        self.left = {
            image_token_id: [(grid, 0.0) for grid in images],
            video_token_id: list(zip(videos, seconds, strict=True)),
        }
        self.kind = {image_token_id: "image", video_token_id: "video"}

    def take(self, token: int):
        if not self.left[token]:
            kind = self.kind[token]
            raise PromptError(
                f"the text holds more {kind} placeholders than {kind}s were given: pass every {kind} once."
            )
        return self.left[token].pop(0)

    def check_all_used(self) -> None:
        for token, left in self.left.items():
            if left:
                kind = self.kind[token]
                raise PromptError(
                    f"{len(left)} {kind}(s) were given that the text has no placeholder for: add one placeholder for each {kind}."
                )


def prompts(config, inputs: Mapping[str, Any]) -> list[Prompt]:
    """The rows of a batch.

    Args:
        config: the model's `Qwen2_5_VLConfig`.
        inputs: what the processor returned, as NumPy arrays; `position_ids` int64 `[3, B, S]` in place of those of `rope_index`.

    Raises:
        PromptError, MediaError: as `rope_index`; ids, media and their grids that do not fit each other.
    """
    ids, mask = rows_of(inputs, config.vocab_size)
    vision = config.vision_config
    grids = {name: inputs.get(name) for name in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
    if (positions := inputs.get("position_ids")) is None:
        positions, deltas = rope_index(
            ids,
            mask,
            image_token_id=config.image_token_id,
            video_token_id=config.video_token_id,
            merge=vision.spatial_merge_size,
            tokens_per_second=vision.tokens_per_second,
            **grids,
        )
        following = deltas[:, 0] + ids.shape[1]
    else:
        following = np.where(mask, positions, -1).max(axis=(0, 2)) + 1
    kinds = {
        config.image_token_id: _pieces(inputs.get("pixel_values"), grids["image_grid_thw"]),
        config.video_token_id: _pieces(inputs.get("pixel_values_videos"), grids["video_grid_thw"]),
    }
    rows = []
    for row, kept in enumerate(mask):
        tokens = ids[row, kept]
        media = _take_media(tokens, kinds, vision.spatial_merge_size**2)
        rows.append(Prompt(tokens, positions[:, row, kept], int(following[row]), media))
    if any(kinds.values()):
        raise PromptError(_NOT_AS_MANY)
    return rows


_NOT_AS_MANY = (
    "the image and video tokens of the text are not as many as the features: pass the processor's outputs on as they are, all of "
    "them from one call."
)


def _pieces(pixel_values: np.ndarray | None, grid_thw: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Patches and grid `[1, 3]` of each picture or video, the first one last.

    Raises:
        PromptError: one is there without the other.
        MediaError: the patches are not what the grids add up to.
    """
    if (pixel_values is None) != (grid_thw is None):
        raise PromptError("pixel_values and image_grid_thw belong together, as do those of videos: give both or none.")
    if grid_thw is None:
        return []
    grid = np.asarray(grid_thw)
    check_patches(pixel_values.shape[0], grid)
    bounds = np.cumsum(grid.prod(axis=1))[:-1]
    return [*zip(np.split(pixel_values, bounds), grid[:, None], strict=True)][::-1]


def check_patches(found: int, grid: np.ndarray) -> None:
    """Raises MediaError where there are not as many patches as the grids `[n, 3]` need."""
    if (patches := int(grid.prod(-1).sum())) != found:
        raise MediaError(
            f"pixel_values holds {found} patches but the grids {grid.tolist()} need {patches}: pass both from the same processor "
            f"call."
        )


def _take_media(tokens: np.ndarray, kinds: dict[int, list], patches_a_token: int) -> list[Media]:
    """What stands in one row, taken out of `kinds`.

    Raises:
        PromptError: there is less of it than the row has places for.
    """
    media = []
    for token, pieces in kinds.items():
        places, start = np.flatnonzero(tokens == token), 0
        while start < places.size:
            if not pieces:
                raise PromptError(_NOT_AS_MANY)
            pixels, grid = pieces.pop()
            stop = start + int(grid.prod()) // patches_a_token
            own, start = places[start:stop], stop
            inputs = {"pixel_values": pixels, "grid_thw": grid}
            media.append(Media(content_key(pixels, *grid[0].tolist()), inputs, own))
        if start > places.size:
            raise PromptError(_NOT_AS_MANY)
    return sorted(media, key=lambda each: int(each.places[0]))


def graph_inputs(config, pixel_values: np.ndarray, grid_thw: np.ndarray) -> dict[str, np.ndarray]:
    """What the vision graph takes for the encoder's inputs of some media.

    Raises:
        MediaError: as `vision_layout`.
    """
    vision = config.vision_config
    return {
        "pixel_values": pixel_values,
        **vars(vision_layout(grid_thw, vision.window_tokens, vision.spatial_merge_size)),
    }
