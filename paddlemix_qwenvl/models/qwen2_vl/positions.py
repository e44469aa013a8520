"""Where tokens of Qwen2-VL stand: as in Qwen2.5-VL, but a video's time counts its steps."""

from paddlemix_qwenvl.models.qwen2_5_vl.positions import graph_inputs, prompts

__all__ = ["graph_inputs", "prompts"]
