"""What the released checkpoints say in their config.json, and how it is compared."""

import hub_model

from paddlemix_qwenvl import Qwen2_5_VLConfig

# What Qwen/Qwen2.5-VL-{3B,7B,32B,72B}-Instruct say in their config.json.
COMMON = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 128000,
    "model_type": "qwen2_5_vl",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}
VISION = {
    "depth": 32,
    "hidden_act": "silu",
    "hidden_size": 1280,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
    "temporal_patch_size": 2,
}
NUMBERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SIZES = {
    "3B": ((2048, 11008, 36, 16, 2), 151936, 70, True, (2048, 3420)),
    "7B": ((3584, 18944, 28, 28, 4), 152064, 28, False, (3584, 3420)),
    "32B": ((5120, 27648, 64, 40, 8), 152064, 64, False, (5120, 3456)),
    "72B": ((8192, 29568, 80, 64, 8), 152064, 80, False, (8192, 3456)),
}


def hub_config(size: str) -> dict:
    """The Hub's config.json of a released size."""
    numbers, vocab_size, max_window_layers, tied, (out_hidden_size, intermediate_size) = SIZES[size]
    return {
        **COMMON,
        **dict(zip(NUMBERS, numbers, strict=True)),
        "vocab_size": vocab_size,
        "max_window_layers": max_window_layers,
        "tie_word_embeddings": tied,
        "vision_config": {**VISION, "out_hidden_size": out_hidden_size, "intermediate_size": intermediate_size},
    }


def load(folder, fields: dict) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig.from_pretrained(hub_model.write_config(folder, fields))


def assert_holds(config: Qwen2_5_VLConfig, fields: dict) -> None:
    """Every field of a Hub file, where our config has it."""
    written = config.to_dict()
    for name, value in fields.items():
        if name == "vision_config":
            assert {key: written[name][key] for key in value} == value
        else:
            assert written[name] == value, name


def assert_same(one: Qwen2_5_VLConfig, other: Qwen2_5_VLConfig) -> None:
    assert one.to_dict() == other.to_dict()


def nested(fields: dict) -> dict:
    """The form that transformers 4.52 and later write: the language model's fields in `text_config`."""
    top = {"architectures", "model_type", "vision_config", "tie_word_embeddings", "torch_dtype"}
    top |= {name for name in fields if name.startswith(("vision_", "image_", "video_"))}
    text = {name: value for name, value in fields.items() if name not in top}
    text |= {"model_type": "qwen2_5_vl_text", "layer_types": ["full_attention"] * fields["num_hidden_layers"]}
    text["rope_scaling"] = {**fields["rope_scaling"], "type": "default", "rope_type": "default"}
    return {**{name: value for name, value in fields.items() if name in top}, "text_config": text}
