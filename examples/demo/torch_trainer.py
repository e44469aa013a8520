"""A step of the demo's training in PyTorch: what train.py, heads.py and muon.py do in Paddle. The model is transformers'."""

import shutil
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from patches import COORDINATES, DIGITS, FEATURE_LABELS, IGNORED, PLACES, WEIGHT
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from paddlemix_qwenvl.files import whole_folder
from paddlemix_qwenvl.media.patches import IMAGE_MEAN, IMAGE_STD

MOMENTUM, WEIGHT_DECAY = 0.95, 0.03  # Muon's, as in muon.py
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

torch.set_float32_matmul_precision("high")


def load(path: str) -> dict[str, torch.Tensor]:
    """A batch on the device; its file is deleted."""
    tensors = load_file(path)
    Path(path).unlink()
    if DEVICE == "cpu":
        return tensors
    return {name: values.pin_memory().to(DEVICE, non_blocking=True) for name, values in tensors.items()}


def rotated(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def vision_attention(attention, x, cos, sin, places, taken):
    """Attention within each sequence of the packed `x` [N, size]: sequence i has `taken[i]` [L] of the padded batch [n, L].

    transformers goes through the sequences one by one, unless flash attention is installed.
    """
    q, k, v = attention.qkv(x).view(len(x), 3, attention.num_heads, -1).unbind(1)
    packed = torch.stack([rotated(q, cos, sin), rotated(k, cos, sin), v], 1)
    slots = packed.new_zeros(taken.numel(), *packed.shape[1:]).index_copy(0, places, packed)
    q, k, v = slots.view(*taken.shape, *packed.shape[1:]).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=taken[:, None, None, :])
    return attention.proj(out.transpose(1, 2).reshape(taken.numel(), -1).index_select(0, places))


class Model(nn.Module):
    """Qwen2.5-VL with the heads that patches are asked with."""

    def __init__(self, folder: Path):
        super().__init__()
        whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(folder), attn_implementation="sdpa")
        inner, self.lm_head, self.config = whole.model, whole.lm_head, whole.config
        self.visual = inner.visual if hasattr(inner, "visual") else whole.visual
        self.language = getattr(inner, "language_model", inner)
        width = self.lm_head.in_features
        self.sizes = [len(values) for values in FEATURE_LABELS.values()]
        self.on_features = nn.Linear(width, sum(self.sizes) + COORDINATES)
        self.on_hidden = nn.Linear(width, COORDINATES * PLACES * len(DIGITS))
        trained = folder / "trainer.safetensors"
        if trained.exists():
            state = load_file(trained)
            for name, head in (("on_features", self.on_features), ("on_hidden", self.on_hidden)):
                head.weight.data = state[f"heads {name}.weight"].T.contiguous()
                head.bias.data = state[f"heads {name}.bias"]
        layers = self.language.layers
        layers[len(layers) // 2].register_forward_hook(self.listen)
        mean, std = (torch.tensor(v)[:, None] for v in (IMAGE_MEAN, IMAGE_STD))
        self.register_buffer("mean", mean * 255, persistent=False)
        self.register_buffer("std", std * 255, persistent=False)

    def listen(self, layer, given, output):
        self.hidden = output[0] if isinstance(output, tuple) else output

    def features(self, x: dict) -> torch.Tensor:
        """[T, width] of all pictures' tokens; patches come in the order of the windows."""
        visual = self.visual
        pixels = (x["pixel_values"].view(len(x["pixel_values"]), 3, -1) - self.mean) / self.std
        # Both frames of a picture are the same.
        hidden = F.linear(pixels.flatten(1), visual.patch_embed.proj.weight.sum(2).flatten(1))
        head = hidden.shape[1] // visual.blocks[0].attn.num_heads
        frequencies = 10000.0 ** -(torch.arange(0, head // 2, 2, device=hidden.device) / (head // 2))
        angles = (x["patch_positions"].unsqueeze(-1) * frequencies).flatten(1).repeat(1, 2).unsqueeze(1)
        cos, sin = angles.cos(), angles.sin()
        for number, block in enumerate(visual.blocks):
            kind = "full" if number in self.config.vision_config.fullatt_block_indexes else "window"
            bounds = x[f"{kind}_places"], x[f"{kind}_taken"]
            hidden = hidden + vision_attention(block.attn, block.norm1(hidden), cos, sin, *bounds)
            hidden = hidden + block.mlp(block.norm2(hidden))
        return visual.merger(hidden).index_select(0, x["restore"])

    def forward(self, x: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the answers and loss of the patches.

        Rows are padded on the right, so causal attention needs no mask.
        """
        features, shape = self.features(x), x["input_ids"].shape
        embeddings = self.language.embed_tokens(x["input_ids"]).flatten(0, 1)
        embeddings = embeddings.index_copy(0, x["image_places"], features).view(*shape, -1)
        output = self.language(inputs_embeds=embeddings, position_ids=x["position_ids"], use_cache=False)
        hidden = output.last_hidden_state.flatten(0, 1)
        logits = self.lm_head(hidden.index_select(0, x["places"]))
        losses = F.cross_entropy(logits, x["expected"], reduction="none")
        answers = (losses * x["weights"]).sum() / x["weights"].sum()
        return answers, self.patch_loss(features, self.hidden.flatten(0, 1).index_select(0, x["image_places"]), x)

    def patch_loss(self, features, hidden, x: dict) -> torch.Tensor:
        """As PatchHeads.loss in heads.py."""
        *said, offsets = self.on_features(normalized(features)).split([*self.sizes, COORDINATES], 1)
        labels = x["patch_labels"]
        total = sum(mean_loss(logits, labels[:, column]) for column, logits in enumerate(said))
        digits, expected = self.on_hidden(normalized(hidden)), labels[:, len(self.sizes) :]
        total = total + 3 * mean_loss(digits.view(-1, len(DIGITS)), expected.flatten())
        on_shape = (expected[:, :1] != IGNORED).float()
        return total + 2 * ((offsets - x["patch_boxes"]).abs() * on_shape).sum() / (COORDINATES * on_shape.sum() + 1)


def normalized(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def mean_loss(logits, labels):
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / ((labels != IGNORED).sum() + 1e-6)


class Muon:
    """muon.py's; matrices of one shape are stepped together. torch.optim.Muon would take query, key and value for one matrix."""

    def __init__(self, named: list):
        self.groups = defaultdict(list)
        for name, parameter in named:
            flat = parameter.data.flatten(1)
            parts = 3 if name.endswith("qkv.weight") else 1
            rows = len(flat) // parts
            for part in range(parts):
                self.groups[rows, flat.shape[1]].append((parameter, slice(part * rows, (part + 1) * rows)))
        self.momentum = {shape: torch.zeros(len(p), *shape, device=DEVICE) for shape, p in self.groups.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for shape, parts in self.groups.items():
            gradient = torch.stack([parameter.grad.flatten(1)[rows] for parameter, rows in parts])
            momentum = self.momentum[shape].lerp_(gradient, 1 - MOMENTUM)
            update = orthogonalized(gradient.lerp(momentum, MOMENTUM))
            update = update * (learning_rate * max(1, shape[0] / shape[1]) ** 0.5)
            matrices = [parameter.data.flatten(1)[rows] for parameter, rows in parts]
            torch._foreach_mul_(matrices, 1 - learning_rate * WEIGHT_DECAY)
            torch._foreach_sub_(matrices, list(update.unbind()))


def orthogonalized(matrices):
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x if wide else x.mT


class Trainer:
    """Muon for the matrices, AdamW for the rest, as train.py from scratch."""

    def __init__(self, folder: Path, learning_rate: float):
        self.folder, self.learning_rate, self.step = folder, learning_rate, 0
        self.model = Model(folder).to(DEVICE).train()
        named = list(self.model.named_parameters())
        matrices = [(name, p) for name, p in named if p.ndim > 1 and name.startswith(("visual", "language.layers"))]
        in_muon = {id(p) for _, p in matrices}
        self.muon = Muon(matrices)
        rest = [p for _, p in named if id(p) not in in_muon]
        self.adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def train(self, batch: dict, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One step; returns the losses of answers and patches. `rate` is a factor of the learning rate."""
        answers, patches = self.model(batch)
        (answers + WEIGHT * patches).backward()
        self.muon.step(rate * self.learning_rate * 20 / 3)
        self.adam.param_groups[0]["lr"] = rate * self.learning_rate
        self.adam.step()
        self.model.zero_grad()
        self.step += 1
        return answers.detach(), patches.detach()

    def save(self, folder: Path) -> None:
        """Weights in the Hub's layout, the config they started with, and the heads where `train.py` keeps them."""
        hub = {"visual.": self.model.visual, "model.": self.model.language}
        weights = {prefix + name: p.detach().cpu() for prefix, m in hub.items() for name, p in m.named_parameters()}
        heads = {"on_features": self.model.on_features, "on_hidden": self.model.on_hidden}
        state = {f"heads {name}.weight": layer.weight.detach().T.cpu().contiguous() for name, layer in heads.items()}
        state |= {f"heads {name}.bias": layer.bias.detach().cpu() for name, layer in heads.items()}
        with whole_folder(folder) as part:
            save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
            save_file(state, part / "trainer.safetensors")
            for file in self.folder.iterdir():
                if file.suffix in (".json", ".txt") and file.name != "trainer.json":
                    shutil.copyfile(file, part / file.name)
