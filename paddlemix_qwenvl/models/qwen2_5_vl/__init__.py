"""Qwen2.5-VL (arXiv:2502.13923)."""

from paddlemix_qwenvl.models.family import usual_family
from paddlemix_qwenvl.models.qwen2_5_vl.sizes import SIZES

FAMILY = usual_family("qwen2_5_vl", "Qwen2.5-VL", "Qwen2_5_VL", SIZES)
