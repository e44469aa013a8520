"""Fields of the released checkpoints' config.json that differ from the defaults."""

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
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_window_layers": 28,
        "rms_norm_eps": 1e-6,
        "vision_config": {"hidden_size": 3584},
    },
    "72B": {"rms_norm_eps": 1e-6, "vision_config": {"hidden_size": 8192}},
}
