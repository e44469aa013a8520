"""Defaults of config.json, and the fields of the released checkpoints' that differ from them."""

from paddlemix_qwenvl.models.qwen2_5_vl.sizes import AWQ, AWQ_72B
from paddlemix_qwenvl.models.qwen2_5_vl.sizes import SIZES as QWEN2_5

DEFAULTS = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    **QWEN2_5["72B"],
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "sliding_window": 4096,
    "vision_config": {},
}
"""Those of the Hub: where they are not Qwen2.5-VL's, the 72B's."""
SIZES = {
    "2B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_window_layers": 28,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "vision_config": {"hidden_size": 1536},
    },
    "7B": {**QWEN2_5["7B"], "rms_norm_eps": 1e-6, "vision_config": {"hidden_size": 3584}},
    "72B": {"rms_norm_eps": 1e-6, "vision_config": {"hidden_size": 8192}},
}
SIZES |= {f"{size}-AWQ": {**SIZES[size], **(AWQ_72B if size == "72B" else AWQ)} for size in [*SIZES]}
