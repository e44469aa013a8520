"""Seeded random checkpoints of Qwen2.5-VL and Qwen2-VL in the Hub's layout, a few MB each, every one with a shape of its own."""

import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import torch
from tokenizer_files import config_ids, special_token_ids, write_text, write_tokenizer_files
from transformers import (
    PretrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

REAL_RANKS = 151643


@dataclass(frozen=True)
class Checkpoint:
    """What sets one checkpoint apart. `vocab_size` may exceed the tokenizer's, as it does on the Hub."""

    name: str
    tied: bool
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mrope_section: tuple[int, int, int]
    vision_hidden: int
    vision_heads: int
    vision_depth: int
    _: KW_ONLY
    ranks: int = 512
    vocab_size: int = 534
    min_pixels: int = 3136
    max_pixels: int = 128 * 28 * 28
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1000000.0
    max_shard_size: str = "5GB"


@dataclass(frozen=True)
class Qwen2_5_VL(Checkpoint):
    """What its vision tower has of its own."""

    window_size: int
    fullatt_block_indexes: tuple[int, ...]
    _: KW_ONLY
    tokens_per_second: int = 2

    config_class, model_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    processor_class = "Qwen2_5_VLProcessor"

    def vision_config(self) -> dict:
        return {
            "depth": self.vision_depth,
            "hidden_size": self.vision_hidden,
            "intermediate_size": self.vision_hidden * 2 + 3,
            "num_heads": self.vision_heads,
            "window_size": self.window_size,
            "out_hidden_size": self.hidden,
            "fullatt_block_indexes": list(self.fullatt_block_indexes),
            "tokens_per_second": self.tokens_per_second,
        }


@dataclass(frozen=True)
class Qwen2VL(Checkpoint):
    """What its vision tower has of its own."""

    mlp_ratio: float

    config_class, model_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration
    processor_class = "Qwen2VLProcessor"

    def vision_config(self) -> dict:
        widths = {"embed_dim": self.vision_hidden, "hidden_size": self.hidden, "mlp_ratio": self.mlp_ratio}
        return {"depth": self.vision_depth, "num_heads": self.vision_heads, **widths}


CHECKPOINTS = (
    # Tied, 4 query heads a KV head, the Hub's window of 4 x 4 merged patches, no cap worth the name on the image size.
    Qwen2_5_VL("tied", True, 64, 3, 4, 1, (2, 3, 3), 48, 3, 4, 112, (1, 3), min_pixels=784, max_pixels=12845056),
    # Untied, 2 query heads a KV head, in shards, windows of 2 x 2, many position steps a second of video.
    Qwen2_5_VL(
        "sharded", False, 96, 4, 4, 2, (4, 4, 4), 64, 4, 5, 56, (4,), tokens_per_second=25, max_shard_size="1MB"
    ),
    # Untied, one KV head for each query head, windows of 3 x 3 and no block that sees the whole image.
    Qwen2_5_VL("windows", False, 96, 2, 3, 3, (4, 6, 6), 64, 2, 2, 84, (), vocab_size=544, rms_norm_eps=1e-5),
    # The released models' head widths: 128 in the language model with their mRoPE sections, 80 in the vision tower.
    Qwen2_5_VL("heads", False, 256, 2, 2, 1, (16, 24, 24), 160, 2, 2, 112, (0,), max_shard_size="4MB"),
    # Tied, 7 query heads a KV head as in the 7B, every vision block with full attention, another rope base.
    Qwen2_5_VL("seven", True, 112, 3, 7, 1, (2, 3, 3), 32, 2, 2, 112, (0, 1), tokens_per_second=4, rope_theta=10000.0),
    # The real vocabulary, 3 query heads a KV head.
    Qwen2_5_VL(
        "vocabulary", True, 24, 2, 3, 1, (1, 1, 2), 32, 2, 2, 112, (1,), ranks=REAL_RANKS, vocab_size=REAL_RANKS + 293
    ),
    # Qwen2-VL. Tied, 4 query heads a KV head, the Hub's ratio of the vision tower's MLP, no cap worth the name on image sizes.
    Qwen2VL("qwen2_vl_tied", True, 64, 3, 4, 1, (2, 3, 3), 48, 3, 3, 4, min_pixels=784, max_pixels=12845056),
    # Untied, 2 query heads a KV head, in shards.
    Qwen2VL("qwen2_vl_sharded", False, 96, 3, 4, 2, (4, 4, 4), 64, 4, 2, 2.5, vocab_size=544, max_shard_size="500KB"),
    # The released models' head widths, an inner width that is no whole multiple.
    Qwen2VL("qwen2_vl_heads", False, 256, 2, 2, 1, (16, 24, 24), 160, 2, 2, 1.37, rms_norm_eps=1e-5),
    # Tied, 7 query heads a KV head as in the 7B, one head in the vision tower, another rope base.
    Qwen2VL("qwen2_vl_seven", True, 112, 2, 7, 1, (2, 3, 3), 32, 1, 2, 3, rope_theta=10000.0),
)


def model_config(shape: Checkpoint) -> PretrainedConfig:
    ids = special_token_ids(shape.ranks)
    return shape.config_class(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 2 + 8,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32768,
        rms_norm_eps=shape.rms_norm_eps,
        rope_theta=shape.rope_theta,
        rope_scaling={"type": "mrope", "mrope_section": list(shape.mrope_section)},
        tie_word_embeddings=shape.tied,
        max_window_layers=shape.layers,
        **config_ids(ids),
        vision_config=shape.vision_config(),
    )


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fill every parameter so that no part of the model is near the identity and greedy decoding is clear-cut.

    The initialisation of training (deviation 0.02, norms at one, biases at zero) would hide a missing bias, a wrong norm
    or a flat attention. Here activations stay near one, attention is peaked and logits have a deviation of about 4.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            value = 0.3 * noise
        elif parameter.ndim == 1:
            value = (1 + 0.3 * noise).clamp(0.3, 2)
        elif "embed_tokens" in name or "lm_head" in name:
            value = noise * 4 / parameter.shape[-1] ** 0.5
        else:
            value = noise * 1.5 / parameter[0].numel() ** 0.5
        parameter.copy_(value)


def write_config_as_on_the_hub(folder: Path) -> None:
    """transformers renames the rope type on loading; the Hub's config.json says "mrope" and gives `in_chans`."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["rope_scaling"] = {"type": "mrope", "mrope_section": config["rope_scaling"]["mrope_section"]}
    config["vision_config"]["in_chans"] = config["vision_config"].pop("in_channels")
    write_text(path, json.dumps(config, indent=2) + "\n")


def write_checkpoint(shape: Checkpoint, folder: Path, seed: int) -> None:
    """Write weights, config, tokenizer and processor files of one checkpoint into `folder`."""
    model = shape.model_class(model_config(shape))
    randomise(model, seed)
    model.save_pretrained(folder, max_shard_size=shape.max_shard_size)
    write_config_as_on_the_hub(folder)
    write_tokenizer_files(folder, shape.ranks, shape.min_pixels, shape.max_pixels, shape.processor_class)
