"""Messages, images and videos to inputs of Qwen2-VL, and ids back to text."""

from __future__ import annotations

from paddlemix_qwenvl.models.qwen2_5_vl.processor import Qwen2_5_VLProcessor
from paddlemix_qwenvl.models.qwen2_vl.image_processor import Qwen2VLImageProcessor
from paddlemix_qwenvl.models.qwen2_vl.tokenizer import Qwen2VLTokenizer


class Qwen2VLProcessor(Qwen2_5_VLProcessor):
    """As `Qwen2_5_VLProcessor`; videos have no `second_per_grid_ts`, and answers keep the tags of their boxes."""

    image_processor_class, tokenizer_class = "Qwen2VLImageProcessor", "Qwen2VLTokenizer"
    parts = {"image_processor": Qwen2VLImageProcessor, "tokenizer": Qwen2VLTokenizer}  # noqa: RUF012
    times_videos = False
    grid = (1000, 1000)
    answer_tokens = tuple(f"<|{tag}_{end}|>" for tag in ("object_ref", "box", "quad") for end in ("start", "end"))
