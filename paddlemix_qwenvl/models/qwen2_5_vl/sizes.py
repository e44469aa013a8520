"""Fields of the released checkpoints' config.json that differ from the defaults."""

AWQ = {
    "quantization_config": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "modules_to_not_convert": ["visual"],
        "version": "gemm",
        "zero_point": True,
    }
}
AWQ_72B = {**AWQ, "intermediate_size": 29696}
"""The 72B's MLPs have been filled up with zeros: 29 568 are 231 groups, which no even number of ranks shares."""
SIZES = {
    "3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_window_layers": 70,
        "tie_word_embeddings": True,
        "vision_config": {"out_hidden_size": 2048},
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_window_layers": 28,
        "vision_config": {"out_hidden_size": 3584},
    },
    "32B": {
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "max_window_layers": 64,
        "vision_config": {"out_hidden_size": 5120, "intermediate_size": 3456},
    },
    "72B": {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "max_window_layers": 80,
        "vision_config": {"out_hidden_size": 8192, "intermediate_size": 3456},
    },
}
SIZES |= {f"{size}-AWQ": {**SIZES[size], **(AWQ_72B if size == "72B" else AWQ)} for size in [*SIZES]}
