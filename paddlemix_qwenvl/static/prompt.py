"""What a family makes of messages for its graphs, and of ids for the reader. Neither Paddle nor PaddleNLP is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.errors import DeployError, PromptError
from paddlemix_qwenvl.media import preprocess_images, preprocess_videos, process_vision_info
from paddlemix_qwenvl.media.messages import extract_vision_info
from paddlemix_qwenvl.models.call_options import check_text
from paddlemix_qwenvl.models.chat_templates import choose_template, processor_templates
from paddlemix_qwenvl.models.jinja import render_chat
from paddlemix_qwenvl.models.qwen2_5_vl.image_settings import patch_arguments, read_picture_settings
from paddlemix_qwenvl.models.qwen2_5_vl.positions import rope_index, vision_layout
from paddlemix_qwenvl.models.qwen2_5_vl.prompt import IMAGE_TOKEN, VIDEO_TOKEN, grow_placeholders
from paddlemix_qwenvl.models.qwen_vl.images import find_slots, picture_name, read_pictures
from paddlemix_qwenvl.models.qwen_vl.positions import ntk_alpha
from paddlemix_qwenvl.models.qwen_vl.prompt import CHATML, plain_parts, read_chat_format, render_messages
from paddlemix_qwenvl.models.qwen_vl.ranks import RANKS, encoding_of, read_exported, read_ranks
from paddlemix_qwenvl.models.qwen_vl.tags import TaggedText
from paddlemix_qwenvl.models.tokenizer_files import read_tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import END, read_settings
from paddlemix_qwenvl.static.manifest import Manifest

DEFAULT_FPS = 2.0


@dataclass
class Prompt:
    """A batch, ready for the graphs.

    Attributes:
        rows: int64 `[length]`, each row's ids, without padding.
        vision: inputs of the vision graph by name, once for each run.
        is_feature: bool arrays `[T]` over the packed ids, the tokens that the features of each run replace, in order.
        position_ids: int64 `[position_rows, T]`.
        next_positions: int64 `[B]`.
        constants: further inputs of the language graph.
        sizes: `original_sizes` and what else `grounding.parse` takes.
    """

    rows: list[np.ndarray]
    vision: list[dict[str, np.ndarray]]
    is_feature: list[np.ndarray]
    position_ids: np.ndarray
    next_positions: np.ndarray
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    sizes: dict[str, list] = field(default_factory=dict)


class Qwen2_5_VLPrompts:
    """Chat template, `tokenizers`, patches of images and videos, 3D positions."""

    def __init__(self, folder: Path, manifest: Manifest):
        settings = read_settings(folder)
        self.tokenizer = read_tokenizer(folder, settings)
        self.chat_template = choose_template(processor_templates(folder, settings))
        self.special_tokens = settings.named_tokens()
        self.images, self.videos = map(patch_arguments, read_picture_settings(folder))
        self.tokens, self.layout = manifest.tokens, manifest.vision
        self.ends = None

    def render(self, conversations: list) -> tuple[list[str], list, list]:
        """Texts, images and videos of conversations in the Hub's format."""
        texts = render_chat(self.chat_template, conversations, add_generation_prompt=True, **self.special_tokens)
        images, videos = process_vision_info(conversations)
        return texts, images or [], videos or []

    def prepare(self, texts: list[str], images: list, videos: list) -> Prompt:
        """Texts with one placeholder an image or video, and these in the order of their placeholders."""
        check_text(texts)
        media = preprocess_images(images, **self.images) if images else {}
        media |= preprocess_videos(videos, **self.videos) if videos else {}
        grids = {"image": media.get("image_grid_thw"), "video": media.get("video_grid_thw")}
        merge = self.layout["merge"]
        texts = grow_placeholders(texts, IMAGE_TOKEN, grids["image"], merge, "image")
        texts = grow_placeholders(texts, VIDEO_TOKEN, grids["video"], merge, "video")
        rows = [np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64) for text in texts]
        packed = np.concatenate(rows)
        pixels = {"image": media.get("pixel_values"), "video": media.get("pixel_values_videos")}
        kinds = [kind for kind in ("image", "video") if grids[kind] is not None]
        frames = self.videos["temporal_patch_size"]
        seconds = np.float32([frames / getattr(video, "fps", DEFAULT_FPS) for video in videos]) if videos else None
        positions = self._positions(rows, grids, seconds)
        return Prompt(
            rows=rows,
            vision=[self._vision(pixels[kind], grids[kind]) for kind in kinds],
            is_feature=[packed == self.tokens[kind] for kind in kinds],
            position_ids=np.concatenate(positions, axis=1),
            next_positions=np.array([row.max(initial=-1) + 1 for row in positions]),
            sizes={name: sizes for name, sizes in media.items() if name.endswith("_sizes")},
        )

    def _vision(self, pixel_values: np.ndarray, grids: np.ndarray) -> dict[str, np.ndarray]:
        layout = vision_layout(grids, self.layout["window"], self.layout["merge"])
        return {"pixel_values": pixel_values, **vars(layout)}

    def _positions(self, rows: list[np.ndarray], grids: dict, seconds) -> list[np.ndarray]:
        """`[3, length]` of each row."""
        ids, mask = padded(rows, self.tokens["pad"])
        positions, _ = rope_index(
            ids,
            mask,
            image_token_id=self.tokens["image"],
            video_token_id=self.tokens["video"],
            merge=self.layout["merge"],
            tokens_per_second=self.layout["tokens_per_second"],
            image_grid_thw=grids["image"],
            video_grid_thw=grids["video"],
            second_per_grid_ts=seconds,
        )
        return [positions[:, index, mask[index]] for index in range(len(rows))]

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        """Text of one row's ids."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)


class QWenVLPrompts(TaggedText):
    """ChatML or plain prompts, `tiktoken`, squares of pixels, positions that count a row's padding, dynamic NTK."""

    def __init__(self, folder: Path, manifest: Manifest):
        ranks = read_ranks(folder / RANKS)
        self.special_tokens = read_exported(folder, ranks).special_tokens
        self.tokenizer = encoding_of(ranks, self.special_tokens)
        self.decoder = {rank: token for token, rank in (ranks | self.special_tokens).items()}
        self.eod_id = self.special_tokens[END]
        self.name_tags()
        self.is_chat = read_chat_format(folder) == CHATML
        turns = [self.special_tokens[token] for token in ("<|im_end|>", "<|im_start|>")]
        self.ends = [*turns, self.eod_id] if self.is_chat else None
        self.layout = manifest.vision

    def render(self, conversations: list) -> tuple[list[str], list, list]:
        """Texts and pictures of conversations in the Hub's format; a model that is no chat model gets the parts as they are."""
        elements = extract_vision_info(conversations)
        images = [element["image"] for element in elements if "image" in element]
        if self.is_chat:
            return (
                [render_messages(conversation, add_generation_prompt=True) for conversation in conversations],
                images,
                [],
            )
        return [self.from_list_format(plain_parts(conversation)) for conversation in conversations], images, []

    def prepare(self, texts: list[str], images: list, videos: list) -> Prompt:
        """Texts with `<img>name</img>` for each picture; without `images`, they are read from these paths and addresses."""
        if videos:
            raise PromptError("Qwen-VL takes no videos: pass single frames as images.")
        rows = [np.array(self.ids(text), np.int64) for text in texts]
        start_id, places, names = self.img_start_id, [], []
        for row in rows:
            is_picture = np.zeros(len(row), bool)
            for slot in find_slots(row[None], start_id, self.layout["n_queries"]):
                is_picture[slot.start : slot.stop] = True
                names.append(row[slot.start : slot.stop])
            places.append(is_picture)
        if not images:
            images = [picture_name(name, start_id) for name in names]
        if len(images) != len(names):
            raise PromptError(f"there are {len(names)} <img> in the text but {len(images)} images: give one for each.")
        pixels, sizes = read_pictures(images, self.layout["image_size"]) if images else (None, [])
        longest = max(map(len, rows))
        alpha = ntk_alpha(longest, self.layout["ntk_length"]) if self.layout["ntk_length"] else 1
        return Prompt(
            rows=rows,
            vision=[{"images": pixels}] if images else [],
            is_feature=[np.concatenate(places)] if images else [],
            position_ids=np.concatenate([np.arange(longest - len(row), longest) for row in rows])[None],
            next_positions=np.full(len(rows), longest),
            constants={"ntk_alpha": np.float32([alpha])},
            sizes={"original_sizes": sizes},
        )

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        """Text of one row's ids up to where the turn ends, tags of boxes and all."""
        ends = {self.eod_id, *(self.ends or ())}
        stop = next((place for place, token in enumerate(token_ids) if token in ends), len(token_ids))
        return self.tokenizer.decode(self.plain_ids(token_ids[:stop]))


PROMPTS = {"qwen2_5_vl": Qwen2_5_VLPrompts, "qwen_vl": QWenVLPrompts}


def prompts_of(folder: Path, manifest: Manifest):
    """The family's prompts.

    Raises:
        DeployError: a family that this version does not know, or files that cannot be read.
    """
    if manifest.family not in PROMPTS:
        raise DeployError(f"{folder} is an export of {manifest.family!r}: known are {', '.join(PROMPTS)}.")
    try:
        return PROMPTS[manifest.family](folder, manifest)
    except (OSError, ValueError, KeyError) as error:
        raise DeployError(f"tokenizer or processor of {folder} cannot be read ({error}): export again.") from error


def padded(rows: list[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows as one array `[B, S]`, padded on the right, and its mask."""
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), pad, np.int64), np.zeros((len(rows), longest), bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, True
    return ids, mask
