"""Pictures and videos of Qwen2-VL to patches."""

from __future__ import annotations

from paddlemix_qwenvl.models.qwen2_5_vl.image_processor import Qwen2_5_VLImageProcessor


class Qwen2VLImageProcessor(Qwen2_5_VLImageProcessor):
    """As `Qwen2_5_VLImageProcessor`."""

    processor_class = "Qwen2VLProcessor"
