"""Qwen2-VL (arXiv:2409.12191)."""

from paddlemix_qwenvl.models.family import usual_family
from paddlemix_qwenvl.models.qwen2_vl.sizes import SIZES

FAMILY = usual_family(
    "qwen2_vl",
    "Qwen2-VL",
    "Qwen2VL",
    SIZES,
    shared=("image_processor",),  # folders of Qwen2.5-VL name Qwen2VLImageProcessor, too
)
