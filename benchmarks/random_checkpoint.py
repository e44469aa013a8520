"""Writes seeded random Qwen2.5-VL checkpoints in the Hub's layout: `random_checkpoint.py FOLDER [--layers N]`.

The default is the 1.43 B model that the figures of this repository are measured on: the widths of the 3B with 12 language
layers and 8 vision blocks. Weights are written as they are drawn, so the whole is never in memory.
"""

import argparse
import json
import math
import struct
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.models.qwen2_5_vl.config import Qwen2_5_VLConfig
from paddlemix_qwenvl.weights.casts import to_bfloat16
from paddlemix_qwenvl.weights.checkpoint import SAFETENSORS_INDEX

SHARD_BYTES = 2 * 1024**3
DRAW = 1 << 22  # numbers at a time
ROOT = Path(__file__).resolve().parents[1]


def config_3b(layers: int = 12, vision_blocks: int = 8) -> dict:
    """The released 3B's config.json with fewer layers and blocks."""
    sizes = {"num_hidden_layers": layers, "max_window_layers": layers}
    vision = {"depth": vision_blocks, "out_hidden_size": 2048}
    return Qwen2_5_VLConfig.of_size("3B", **sizes, vision_config=vision).to_dict()


def vision_shapes(vision: dict) -> dict[str, tuple[int, ...]]:
    width, inner, out = vision["hidden_size"], vision["intermediate_size"], vision["out_hidden_size"]
    patch, merged = vision["patch_size"], width * vision["spatial_merge_size"] ** 2
    shapes = {"patch_embed.proj.weight": (width, 3, vision["temporal_patch_size"], patch, patch)}
    for block in (f"blocks.{index}." for index in range(vision["depth"])):
        shapes |= {block + "norm1.weight": (width,), block + "norm2.weight": (width,)}
        linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.gate_proj": (inner, width)}
        linears |= {"mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
        for name, shape in linears.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
    shapes["merger.ln_q.weight"] = (width,)
    for name, shape in {"merger.mlp.0": (merged, merged), "merger.mlp.2": (out, merged)}.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {f"visual.{name}": shape for name, shape in shapes.items()}


def language_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    kv = width // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for layer in (f"model.layers.{index}." for index in range(config["num_hidden_layers"])):
        for name, rows in {"q_proj": width, "k_proj": kv, "v_proj": kv}.items():
            shapes |= {f"{layer}self_attn.{name}.weight": (rows, width), f"{layer}self_attn.{name}.bias": (rows,)}
        shapes[layer + "self_attn.o_proj.weight"] = (width, width)
        shapes |= {layer + "mlp.gate_proj.weight": (inner, width), layer + "mlp.up_proj.weight": (inner, width)}
        shapes[layer + "mlp.down_proj.weight"] = (width, inner)
        shapes |= {layer + "input_layernorm.weight": (width,), layer + "post_attention_layernorm.weight": (width,)}
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def write_checkpoint(
    folder: Path, config: dict, seed: int = 0, shard_bytes: int = SHARD_BYTES, shapes: dict | None = None
) -> int:
    """Write config.json and bfloat16 shards into `folder`; returns the number of parameters.

    `shapes` of the tensors by name, if they are not Qwen2.5-VL's.
    Linear weights have a deviation of 1 / sqrt(fan-in), so that activations keep their size; norms are near one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = shapes or vision_shapes(config["vision_config"]) | language_shapes(config)
    shards = [{}]
    for name, shape in shapes.items():
        if shards[-1] and 2 * sum(map(math.prod, [*shards[-1].values(), shape])) > shard_bytes:
            shards.append({})
        shards[-1][name] = shape
    weight_map = {}
    for index, shard in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(shard, file)
        _write_shard(folder / file, shard, np.random.default_rng([seed, index]))
    total = sum(map(math.prod, shapes.values()))
    index = {"metadata": {"total_size": 2 * total}, "weight_map": weight_map}
    write_json(folder / SAFETENSORS_INDEX, index)
    write_json(folder / "config.json", config)
    return total


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], generator: np.random.Generator) -> None:
    """The safetensors format (huggingface.co/docs/safetensors), one block of numbers at a time."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            is_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            mean, deviation = (1.0, 0.1) if is_norm else (0.0, _deviation(shape))
            for start in range(0, math.prod(shape), DRAW):
                count = min(DRAW, math.prod(shape) - start)
                file.write(to_bfloat16(mean + deviation * generator.standard_normal(count, np.float32)).tobytes())


def _deviation(shape: tuple[int, ...]) -> float:
    return math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=12, help="language layers")
    parser.add_argument("--vision_blocks", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    count = write_checkpoint(given.folder, config_3b(given.layers, given.vision_blocks), given.seed)
    print(f"{given.folder}: {count / 1e6:.1f} M parameters")
