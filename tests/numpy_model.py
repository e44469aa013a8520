"""Qwen2.5-VL once more, literally and slowly: float64 NumPy on the tensors of a Hub file, one token, one mask entry at a time.

Nothing is packed, cached, windowed by reordering or fused, so it shares no idea with the package but the paper
(arXiv:2502.13923) and the Hub's names.
"""

import math

import numpy as np


class NumpyModel:
    """`tensors` by Hub names, `config` in the Hub's flat form."""

    def __init__(self, config: dict, tensors: dict):
        self.config, self.vision = config, config["vision_config"]
        self.tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

    def linear(self, x, name: str):
        y = x @ self.tensors[name + ".weight"].T
        return y + self.tensors[name + ".bias"] if name + ".bias" in self.tensors else y

    def norm(self, x, name: str, epsilon: float):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * self.tensors[name + ".weight"]

    def swiglu(self, x, name: str):
        gate = self.linear(x, name + ".gate_proj")
        return self.linear(gate / (1 + np.exp(-gate)) * self.linear(x, name + ".up_proj"), name + ".down_proj")

    def features(self, pixel_values, grid_thw):
        """`[tokens, hidden]` of all images, as the vision tower gives them."""
        config, heads = self.vision, self.vision["num_heads"]
        merge, window = config["spatial_merge_size"], config["window_size"] // config["patch_size"]
        places = [
            place for i, grid in enumerate(np.asarray(grid_thw).tolist()) for place in patch_places(i, grid, merge)
        ]
        whole = np.array([[a[:2] == b[:2] for b in places] for a in places])
        squares = [(row // window, column // window) for _, _, row, column in places]
        windows = whole & np.array([[a == b for b in squares] for a in squares])
        head_dim = config["hidden_size"] // heads
        inv_freq = 10000.0 ** -(np.arange(0, head_dim // 2, 2) / (head_dim // 2))
        angles = np.array([[*(row * inv_freq), *(column * inv_freq)] for _, _, row, column in places])

        flat = self.tensors["visual.patch_embed.proj.weight"].reshape(config["hidden_size"], -1)
        x = np.asarray(pixel_values, np.float64) @ flat.T
        for i in range(config["depth"]):
            block = f"visual.blocks.{i}"
            packed = self.linear(self.norm(x, block + ".norm1", 1e-6), block + ".attn.qkv")
            q, k, v = packed.reshape(len(x), 3, heads, head_dim).transpose(1, 2, 0, 3)
            mask = whole if i in config["fullatt_block_indexes"] else windows
            mixed = attend(rotate(q, angles), rotate(k, angles), v, mask)
            x = x + self.linear(mixed, block + ".attn.proj")
            x = x + self.swiglu(self.norm(x, block + ".norm2", 1e-6), block + ".mlp")
        x = self.norm(x, "visual.merger.ln_q", 1e-6).reshape(len(x) // merge**2, -1)
        x = self.linear(x, "visual.merger.mlp.0")
        x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return self.linear(x, "visual.merger.mlp.2")

    def logits(self, ids, images=None, videos=None, seconds=None):
        """`[S, vocab]` of one row without padding; `images` and `videos` are pairs `(pixel_values, grid_thw)`."""
        config, merge = self.config, self.vision["spatial_merge_size"]
        ids = np.asarray(ids)
        x = self.tensors["model.embed_tokens.weight"][ids]
        for token, media in ((config["image_token_id"], images), (config["video_token_id"], videos)):
            if media is not None:
                x[ids == token] = self.features(*media)
        grids = [[] if media is None else np.asarray(media[1]).tolist() for media in (images, videos)]
        positions = token_positions(
            ids,
            config["image_token_id"],
            config["video_token_id"],
            *grids,
            seconds,
            merge,
            self.vision["tokens_per_second"],
        )
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        head_dim = config["hidden_size"] // heads
        inv_freq = config["rope_theta"] ** -(np.arange(0, head_dim, 2) / head_dim)
        axes = np.repeat([0, 1, 2], config["rope_scaling"]["mrope_section"])
        angles = positions[:, axes] * inv_freq
        causal = np.tril(np.ones((len(ids), len(ids)), bool))
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            y = self.norm(x, layer + ".input_layernorm", config["rms_norm_eps"])
            q, k, v = (
                self.linear(y, f"{layer}.self_attn.{name}_proj").reshape(len(ids), -1, head_dim).transpose(1, 0, 2)
                for name in "qkv"
            )
            k, v = (np.repeat(part, heads // kv_heads, axis=0) for part in (k, v))
            x = x + self.linear(attend(rotate(q, angles), rotate(k, angles), v, causal), layer + ".self_attn.o_proj")
            y = self.norm(x, layer + ".post_attention_layernorm", config["rms_norm_eps"])
            x = x + self.swiglu(y, layer + ".mlp")
        x = self.norm(x, "model.norm", config["rms_norm_eps"])
        head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
        return x @ self.tensors[head].T


def rotate(x, angles):
    """Pairs `(i, i + D / 2)` of `x` `[H, T, D]` turned by `angles` `[T, D / 2]`."""
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(q, k, v, mask):
    """`[T, H D]`, with a whole mask `[T, T]`."""
    scores = np.where(mask, q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = weights / weights.sum(-1, keepdims=True) @ v
    return out.transpose(1, 0, 2).reshape(q.shape[1], -1)


def patch_places(image: int, grid, merge: int) -> list[tuple]:
    """(image, frame, row, column) of each patch in the processor's order: the patches of a merged token together."""
    frames, rows, columns = grid
    return [
        (image, frame, top + row, left + column)
        for frame in range(frames)
        for top in range(0, rows, merge)
        for left in range(0, columns, merge)
        for row in range(merge)
        for column in range(merge)
    ]


def token_positions(ids, image_token, video_token, image_grids, video_grids, seconds, merge, tokens_per_second):
    """`[S, 3]` positions (time, row, column) of one row without padding, token by token."""
    images, videos = iter(image_grids), iter(zip(video_grids, seconds or [1.0] * len(video_grids), strict=True))
    found, at = [], 0
    while len(found) < len(ids):
        token = ids[len(found)]
        if token not in (image_token, video_token):
            found.append((at, at, at))
            at += 1
            continue
        (frames, rows, columns), step = (next(images), 0.0) if token == image_token else next(videos)
        for frame in range(frames):
            time = int(np.float32(np.float32(frame * np.float32(step)) * tokens_per_second))
            for row in range(rows // merge):
                for column in range(columns // merge):
                    found.append((at + time, at + row, at + column))
        at = 1 + max(max(place) for place in found)
    return np.array(found)
