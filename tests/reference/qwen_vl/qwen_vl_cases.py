"""What make_golden.py and the tests that replay its files both start from: configs, seeded weights, pictures, texts.

Needs NumPy and Pillow alone, so that it runs beside the original code and beside the package.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
from PIL import Image

RANKS = 600  # of the vocabulary of the models' prompts
IMAGE_START_ID = RANKS + 208 + 6  # after the ranks: 3 + 205 special tokens, then <ref>, </ref>, <box>, ...
NEW_TOKENS = 32
TOKENIZER_CONFIG = {"model_max_length": 8192, "tokenizer_class": "QWenTokenizer"}


def config(**changes) -> dict:
    """config.json of a small model; `visual` in `changes` adds to the default one."""
    visual = {
        "heads": 4,
        "image_size": 448,
        "image_start_id": IMAGE_START_ID,
        "layers": 2,
        "mlp_ratio": 2.5231,
        "output_dim": 128,
        "patch_size": 14,
        "width": 64,
    }
    fields = {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "attn_dropout_prob": 0.0,
        "emb_dropout_prob": 0.0,
        "bf16": False,
        "fp16": False,
        "fp32": True,
        "hidden_size": 128,
        "initializer_range": 0.02,
        "intermediate_size": 192,
        "kv_channels": 64,
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 2048,
        "no_bias": True,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": 300,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": False,
        "use_logn_attn": True,
        "visual": visual,
        "vocab_size": IMAGE_START_ID + 10,
        "eos_token_id": RANKS,
        "pad_token_id": RANKS,
    }
    visual.update(changes.pop("visual", {}))
    return {**fields, **changes}


# Positions of the vision tower are enlarged from 16 x 16 to 32 x 32 in the first, shrunk to 8 x 8 in the second, whose
# resampler has no kv_proj and whose decoder has biases everywhere.
CONFIGS = {
    "narrow": config(),
    "wide": config(
        hidden_size=256,
        num_attention_heads=8,
        kv_channels=32,
        num_hidden_layers=3,
        intermediate_size=300,
        no_bias=False,
        seq_length=64,
        rotary_emb_base=5000,
        visual={"image_size": 112, "width": 256, "output_dim": 256, "heads": 4, "layers": 3},
    ),
}


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model under its Hub name, Linear weights as `[out, in]`."""
    visual, found = config["visual"], {}
    width, output, patch = visual["width"], visual["output_dim"], visual["patch_size"]
    inner = int(width * visual["mlp_ratio"])
    hidden, half, vocab = config["hidden_size"], config["intermediate_size"] // 2, config["vocab_size"]

    def norm(name: str, size: int) -> dict:
        return {name + ".weight": (size,), name + ".bias": (size,)}

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> dict:
        return {name + ".weight": (outputs, inputs), **({name + ".bias": (outputs,)} if bias else {})}

    tower = "transformer.visual."
    found[tower + "conv1.weight"] = (width, 3, patch, patch)
    found[tower + "positional_embedding"] = (256, width)
    found |= norm(tower + "ln_pre", width) | norm(tower + "ln_post", output)
    found[tower + "proj"] = (output, output)
    for i in range(visual["layers"]):
        block = f"{tower}transformer.resblocks.{i}."
        found |= norm(block + "ln_1", width) | norm(block + "ln_2", width)
        found |= linear(block + "attn.in_proj", 3 * width, width) | linear(block + "attn.out_proj", width, width)
        found |= linear(block + "mlp.c_fc", inner, width) | linear(block + "mlp.c_proj", width, inner)
    pool = tower + "attn_pool."
    found |= {pool + "query": (256, output), pool + "pos_embed": (256, output)}
    found |= {pool + "attn.in_proj_weight": (3 * output, output), pool + "attn.in_proj_bias": (3 * output,)}
    found |= linear(pool + "attn.out_proj", output, output) | norm(pool + "ln_q", output) | norm(pool + "ln_kv", output)
    if width != output:
        found |= linear(pool + "kv_proj", output, width, bias=False)

    biases = not config["no_bias"]
    found["transformer.wte.weight"] = (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"transformer.h.{i}."
        found |= {layer + "ln_1.weight": (hidden,), layer + "ln_2.weight": (hidden,)}
        found |= linear(layer + "attn.c_attn", 3 * hidden, hidden)
        found |= linear(layer + "attn.c_proj", hidden, hidden, biases)
        found |= linear(layer + "mlp.w1", half, hidden, biases) | linear(layer + "mlp.w2", half, hidden, biases)
        found |= linear(layer + "mlp.c_proj", hidden, half, biases)
    found["transformer.ln_f.weight"] = (hidden,)
    found["lm_head.weight"] = (vocab, hidden)
    return found


def tensors(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded float32 values of all tensors: biases and norms far from 0 and 1, attention peaked."""
    return seeded(shapes(config), seed)


def seeded(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Values of tensors, by what their names say they are."""
    draws, values = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        noise = draws.standard_normal(shape)
        if name.endswith("bias"):
            noise *= 0.3
        elif len(shape) == 1:
            noise = np.clip(1 + 0.3 * noise, 0.3, 2)
        elif any(part in name for part in ("wte", "embed_tokens", "lm_head")):
            noise *= 4 / shape[-1] ** 0.5
        elif name.endswith(("query", "pos_embed", "positional_embedding")):
            noise *= 0.7
        else:
            noise *= 1.5 / np.prod(shape[1:]) ** 0.5
        values[name] = noise.astype(np.float32)
    return values


def draw_pictures(folder: Path) -> None:
    """PNG files of several sizes and modes: smooth colours, an edge, some noise."""
    draws = np.random.default_rng(1)
    for name, (width, height), mode in (
        ("street.png", (300, 200), "RGB"),
        ("tower.png", (61, 450), "RGB"),
        ("图 é.png", (448, 448), "L"),
    ):
        rows, columns = np.mgrid[0:height, 0:width]
        picture = np.stack([(columns * 255 / width), (rows * 255 / height), ((rows + columns) % 256)], -1)
        picture[height // 3 : height // 2, width // 4 : width // 2] = (250, 10, 120)
        picture += draws.integers(-20, 21, (height, width, 3))
        picture = picture.clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).convert(mode).save(folder / name)


PICTURES = ("street.png", "tower.png", "图 é.png")
WORDS = "the river in an old town and there in a ring of trees stood the tower; "

# Name -> the rows of a batch: ChatML prompts, as make_context of the original builds them from these queries.
PROMPTS = {
    "text": ["What is the time? 图"],
    "picture": ["<img>street.png</img>What is this?"],
    "two_pictures": ["Picture 1:<img>tower.png</img>\nPicture 2:<img>图 é.png</img>\nCompare <ref>it</ref>"],
    "batch": ["Where is it?", "<img>street.png</img>Box the tower <box>(1,2),(30,999)</box>", WORDS],
    "long": [WORDS * 24],
    "border": [WORDS * 11],
}
# Tokens that a prompt is cut to from the left: past three quarters of the way to an alpha of 7, and just short of seq_length.
LENGTHS = {
    "narrow": {"long": 660, "border": 290},
    "wide": {"long": 150, "border": 54},
}


def read_vocabulary(count: int | None = None) -> bytes:
    """The first `count` lines of qwen.tiktoken, all by default (`pip install --no-deps dashscope==2.0.2`; never imported)."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        raise FileNotFoundError("qwen.tiktoken was not found; run: pip install --no-deps dashscope==2.0.2")
    content = (Path(spec.submodule_search_locations[0]) / "resources" / "qwen.tiktoken").read_bytes()
    return b"".join(content.splitlines(keepends=True)[:count])


def write_tokenizer(folder: Path, count: int | None = None) -> Path:
    """The Hub's tokenizer files, with the whole vocabulary or its first `count` ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qwen.tiktoken").write_bytes(read_vocabulary(count))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    return folder
