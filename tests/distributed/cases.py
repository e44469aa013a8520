"""What is asked of each shape, by one process alone and by every rank of a group."""

from pathlib import Path

import hub_model
import numpy as np
from PIL import Image

# Heads and key-value heads as in the released models; all else is small, and little of it divides by 2 or 4.
SHAPES = {
    "3B": {"num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "7B": {"num_attention_heads": 28, "num_key_value_heads": 4},
    "72B": {"num_attention_heads": 64, "num_key_value_heads": 8},
}
HEAD_DIM = 8
GREEDY = {"do_sample": False, "repetition_penalty": 1.0, "min_new_tokens": 32, "max_new_tokens": 32}
SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 0.95, "min_new_tokens": 8, "max_new_tokens": 8}
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


def config(shape: str) -> dict:
    fields = SHAPES[shape]
    width = fields["num_attention_heads"] * HEAD_DIM
    return hub_model.config(
        **fields,
        hidden_size=width,
        intermediate_size=61,
        rope_scaling={"type": "mrope", "mrope_section": [2, 1, 1]},
        vision_config={"num_heads": 4, "out_hidden_size": width},
    )


def write_checkpoints(folder: Path) -> None:
    """One checkpoint a shape, in shards written by the package itself."""
    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

    for seed, shape in enumerate(SHAPES):
        fields = config(shape)
        given = hub_model.write(folder / f"{shape}-given", fields, hub_model.tensors(fields, seed))
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(given)
        model.save_pretrained(folder / shape, max_shard_size="100KB")


def write_inputs(folder: Path) -> None:
    """Batches of three prompts of different lengths, with images and with videos; the same for all shapes."""
    from paddlemix_qwenvl import Qwen2_5_VLProcessor

    processor = Qwen2_5_VLProcessor.from_pretrained(hub_model.write_processor(folder / "processor"))
    texts = [f"{PICTURE} the thing", f"in {PICTURE} and {PICTURE} what is there?", f"{PICTURE}"]
    images = [noise(140, 84, 0), noise(56, 56, 1), noise(84, 112, 2), noise(252, 56, 3)]
    one = processor(text=texts[:1], images=images[:1], return_tensors="np")
    np.savez(folder / "image.npz", **one)
    np.savez(folder / "images.npz", **processor(text=texts, images=images, padding=True, return_tensors="np"))
    films = [[noise(56, 84, seed + i) for i in range(frames)] for seed, frames in ((4, 2), (6, 6), (12, 4))]
    texts = [f"{FILM} when?", f"the man in {FILM}, where is he?", f"{FILM}"]
    np.savez(folder / "videos.npz", **processor(text=texts, videos=films, padding=True, return_tensors="np"))


def noise(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def answers(model, folder: Path) -> dict[str, np.ndarray]:
    """Logits of every batch; of the batches of three also 32 greedy tokens, and a few that are drawn."""
    import paddle

    found = {}
    for name in ("image", "images", "videos"):
        with np.load(folder / f"{name}.npz") as file:
            inputs = {key: paddle.to_tensor(value) for key, value in file.items()}
        with paddle.no_grad():
            found[f"{name} logits"] = model(**inputs).logits.numpy()
        if len(inputs["input_ids"]) > 1:
            found[f"{name} tokens"] = model.generate(**inputs, **GREEDY)[0].numpy()
    found["seeded tokens"] = model.generate(**inputs, **SAMPLED, seed=11)[0].numpy()
    found["unseeded tokens"] = model.generate(**inputs, **SAMPLED)[0].numpy()
    return found
