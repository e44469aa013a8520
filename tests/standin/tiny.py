"""A whole Qwen2.5-VL of 50 000 random weights and a vocabulary of single bytes, in the Hub's layout."""

from pathlib import Path
from unittest import mock

from reference import tokenizer_files


def write_tiny_model(folder: Path, **config) -> str:
    """Write model, tokenizer and processor into `folder`; gives its path as text."""
    import paddle

    from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    with mock.patch.object(tokenizer_files, "read_ranks", lambda count: {bytes([i]): i for i in range(256)}):
        ids = tokenizer_files.write_tokenizer_files(folder)
    paddle.seed(0)
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "fullatt_block_indexes": [1]}
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            vocab_size=max(ids.values()) + 1,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            vision_config={**vision, "out_hidden_size": 32},
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            vision_token_id=ids["<|vision_pad|>"],
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            dtype="float32",
            **config,
        )
    )
    model.save_pretrained(folder)
    return str(folder)
