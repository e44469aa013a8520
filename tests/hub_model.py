"""A tiny Qwen2.5-VL in the Hub's layout, written without the package under test: config, tensors by name, tokenizer files.

Values are drawn so that every part counts: biases and norms are far from 0 and 1, attention is peaked.
"""

import json
from pathlib import Path
from unittest import mock

import numpy as np
from reference import tokenizer_files
from reference.qwen_vl.qwen_vl_cases import seeded
from safetensors.numpy import save_file

MERGES = [b"th", b"the", b"in", b"an", b" a", b"er", "é".encode(), "图".encode()[:2], "图".encode()]
RANKS = {token: rank for rank, token in enumerate([bytes([i]) for i in range(256)] + MERGES)}
IDS = tokenizer_files.special_token_ids(len(RANKS))


def config(**changes) -> dict:
    """config.json of the Hub's flat form; `vision_config` in `changes` adds to the default one."""
    vision = {
        "depth": 3,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 35,
        "num_heads": 2,
        "in_chans": 3,
        "out_hidden_size": 48,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    }
    fields = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "attention_dropout": 0.0,
        "bos_token_id": IDS["<|endoftext|>"],
        "eos_token_id": IDS["<|im_end|>"],
        "vision_start_token_id": IDS["<|vision_start|>"],
        "vision_end_token_id": IDS["<|vision_end|>"],
        "vision_token_id": IDS["<|vision_pad|>"],
        "image_token_id": IDS["<|image_pad|>"],
        "video_token_id": IDS["<|video_pad|>"],
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.02,
        "intermediate_size": 56,
        "max_position_embeddings": 4096,
        "max_window_layers": 2,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]},
        "sliding_window": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": vision,
        "vocab_size": len(RANKS) + len(IDS) + 3,
    }
    vision.update(changes.pop("vision_config", {}))
    return {**fields, **changes}


def qwen2_vl_config(**changes) -> dict:
    """The same of Qwen2-VL."""
    vision = {
        "depth": 3,
        "embed_dim": 32,
        "hidden_size": 48,
        "hidden_act": "quick_gelu",
        "mlp_ratio": 2.5,
        "num_heads": 2,
        "in_chans": 3,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    }
    vision.update(changes.pop("vision_config", {}))
    fields = config(architectures=["Qwen2VLForConditionalGeneration"], model_type="qwen2_vl", **changes)
    return {**fields, "vision_config": vision}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model under its Hub name, Linear weights as `[out, in]`."""
    vision, found = config["vision_config"], {}
    is_2_5, side = config["model_type"] == "qwen2_5_vl", vision["patch_size"]
    width = vision["hidden_size" if is_2_5 else "embed_dim"]
    inner = vision["intermediate_size"] if is_2_5 else int(width * vision["mlp_ratio"])
    norm_parts = ("weight",) if is_2_5 else ("weight", "bias")
    found["visual.patch_embed.proj.weight"] = (width, 3, vision["temporal_patch_size"], side, side)
    for i in range(vision["depth"]):
        block = f"visual.blocks.{i}."
        found |= {f"{block}norm{n}.{part}": (width,) for n in (1, 2) for part in norm_parts}
        found |= _linear(block + "attn.qkv", 3 * width, width) | _linear(block + "attn.proj", width, width)
        enter, leave = (("gate_proj", "up_proj"), "down_proj") if is_2_5 else (("fc1",), "fc2")
        for name in enter:
            found |= _linear(f"{block}mlp.{name}", inner, width)
        found |= _linear(f"{block}mlp.{leave}", width, inner)
    merged = width * vision["spatial_merge_size"] ** 2
    found |= {f"visual.merger.ln_q.{part}": (width,) for part in norm_parts}
    found |= _linear("visual.merger.mlp.0", merged, merged)
    found |= _linear("visual.merger.mlp.2", config["hidden_size"], merged)

    width, inner = config["hidden_size"], config["intermediate_size"]
    kv_width = width // config["num_attention_heads"] * config["num_key_value_heads"]
    found["model.embed_tokens.weight"] = (config["vocab_size"], width)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        found |= {layer + "input_layernorm.weight": (width,), layer + "post_attention_layernorm.weight": (width,)}
        found |= _linear(layer + "self_attn.q_proj", width, width)
        found |= _linear(layer + "self_attn.k_proj", kv_width, width)
        found |= _linear(layer + "self_attn.v_proj", kv_width, width)
        found[layer + "self_attn.o_proj.weight"] = (width, width)
        found |= {layer + "mlp.gate_proj.weight": (inner, width), layer + "mlp.up_proj.weight": (inner, width)}
        found[layer + "mlp.down_proj.weight"] = (width, inner)
    found["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], width)
    return found


def _linear(name: str, outputs: int, inputs: int) -> dict:
    return {name + ".weight": (outputs, inputs), name + ".bias": (outputs,)}


def tensors(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded float32 values of all tensors."""
    return seeded(shapes(config), seed)


def write_config(folder: Path, config: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write(
    folder: Path, config: dict, tensors: dict, layout: str | None = "pt", name: str = "model.safetensors"
) -> Path:
    """Config and one weight file, whose metadata name `layout`; Linear weights are turned by whoever calls."""
    write_config(folder, config)
    values = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    save_file(values, folder / name, metadata=None if layout is None else {"format": layout})
    return folder


def write_shards(folder: Path, config: dict, tensors: dict, count: int, layout: str = "pt") -> dict[str, str]:
    """The same in `count` files with an index, whose weight map is returned."""
    weight_map = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = dict(list(tensors.items())[i::count])
        write(folder, config, part, layout, file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(value.nbytes for value in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return weight_map


def write_processor(
    folder: Path,
    min_pixels: int = 4 * 28 * 28,
    max_pixels: int = 64 * 28 * 28,
    processor_class: str = "Qwen2_5_VLProcessor",
) -> Path:
    """Tokenizer, template, image processor and generation settings, with a vocabulary of single bytes and a few merges."""
    with mock.patch.object(tokenizer_files, "read_ranks", lambda count: RANKS):
        tokenizer_files.write_tokenizer_files(folder, None, min_pixels, max_pixels, processor_class)
    return folder


def saved_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors in a folder's safetensors files; bfloat16 as its 16 bits. Reads the format itself, as no NumPy reader can."""
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    found = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        assert header.pop("__metadata__") == {"format": "pt"}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            values = np.frombuffer(data[8 + size + first : 8 + size + last], kinds[entry["dtype"]])
            assert name not in found
            found[name] = values.reshape(entry["shape"])
    return found


def held_tensors(model, folder: Path) -> dict[str, np.ndarray]:
    """What the model holds, by Hub names."""
    model.save_pretrained(folder)
    return saved_tensors(folder)


def assert_same(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def as_paddle_lays_them(tensors: dict) -> dict:
    """Linear weights as `[in, out]`; embedding, norms, biases and the convolution as they are."""
    return {
        name: value.T if value.ndim == 2 and "embed_tokens" not in name else value for name, value in tensors.items()
    }


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)
