"""What is asked of each shape, by one process alone and by every rank of a group."""

from pathlib import Path

import hub_model
import numpy as np
from hypothesis import strategies as st
from neighbours import check_neighbours, ways
from PIL import Image
from reference.qwen_vl import qwen_vl_cases

# Heads and key-value heads as in the released models, of Qwen2.5-VL but for the last; all else is small, and little of it
# divides by 2 or 4.
SHAPES = {
    "3B": {"num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "7B": {"num_attention_heads": 28, "num_key_value_heads": 4},
    "72B": {"num_attention_heads": 64, "num_key_value_heads": 8},
    "Qwen2-VL": {"num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True},
}
HEAD_DIM = 8
# Enough heads for 4 ranks in the language model, the vision tower and the resampler, whose heads are 128 wide.
QWEN_VL = {
    "hidden_size": 512,
    "num_attention_heads": 4,
    "kv_channels": 128,
    "intermediate_size": 122,
    "vocab_size": qwen_vl_cases.IMAGE_START_ID + 9,
    "visual": {"image_size": 56, "output_dim": 512, "mlp_ratio": 2.3},
}
MODELS = (*SHAPES, "Qwen-VL")
DEALT = ("7B", "Qwen2-VL")  # asked once more with the vision tower whole on each rank
GREEDY = {"do_sample": False, "repetition_penalty": 1.0, "min_new_tokens": 32, "max_new_tokens": 32}
BEAMS = {"num_beams": 3, "length_penalty": 0.5, "min_new_tokens": 4, "max_new_tokens": 8}
SAMPLED = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 0.95, "min_new_tokens": 8, "max_new_tokens": 8}
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


def model_class(name: str):
    import paddlemix_qwenvl as package

    others = {"Qwen-VL": package.QWenLMHeadModel, "Qwen2-VL": package.Qwen2VLForConditionalGeneration}
    return others.get(name, package.Qwen2_5_VLForConditionalGeneration)


def config(name: str) -> dict:
    if name == "Qwen-VL":
        return qwen_vl_cases.config(**QWEN_VL)
    fields = SHAPES[name]
    width = fields["num_attention_heads"] * HEAD_DIM
    fields = {**fields, "hidden_size": width, "intermediate_size": 61, "rope_scaling": {"mrope_section": [2, 1, 1]}}
    if name == "Qwen2-VL":
        tower = {"num_heads": 4, "hidden_size": width, "mlp_ratio": 2.35}
        return hub_model.qwen2_vl_config(**fields, vision_config=tower)
    return hub_model.config(**fields, vision_config={"num_heads": 4, "out_hidden_size": width})


def write_checkpoints(folder: Path) -> None:
    """One checkpoint a model, in shards written by the package itself; logits are small, so that 1e-4 is within float32."""
    for seed, name in enumerate(MODELS):
        fields = config(name)
        tensors = (qwen_vl_cases if name == "Qwen-VL" else hub_model).tensors(fields, seed)
        for scored in {"lm_head.weight", "model.embed_tokens.weight"} & set(tensors):
            tensors[scored] *= 0.25
        model = model_class(name).from_pretrained(hub_model.write(folder / f"{name}-given", fields, tensors))
        model.save_pretrained(folder / name, max_shard_size="100KB")


def write_inputs(folder: Path) -> None:
    """Batches of three prompts of different lengths, with images and with videos; the same for all shapes."""
    from paddlemix_qwenvl import Qwen2_5_VLProcessor

    write_words(folder)
    processor = Qwen2_5_VLProcessor.from_pretrained(hub_model.write_processor(folder / "processor"))
    texts = [f"{PICTURE} the thing", f"in {PICTURE} and {PICTURE} what is there?", f"{PICTURE}"]
    images = [noise(140, 84, 0), noise(56, 56, 1), noise(84, 112, 2), noise(252, 56, 3)]
    one = processor(text=texts[:1], images=images[:1], return_tensors="np")
    np.savez(folder / "image.npz", **one)
    np.savez(folder / "images.npz", **processor(text=texts, images=images, padding=True, return_tensors="np"))
    films = [[noise(56, 84, seed + i) for i in range(frames)] for seed, frames in ((4, 2), (6, 6), (12, 4))]
    texts = [f"{FILM} when?", f"the man in {FILM}, where is he?", f"{FILM}"]
    np.savez(folder / "videos.npz", **processor(text=texts, videos=films, padding=True, return_tensors="np"))


def write_words(folder: Path) -> None:
    """For Qwen-VL, three rows of random words, two of them with a picture."""
    draws, start = np.random.default_rng(0), qwen_vl_cases.IMAGE_START_ID
    picture = [start, *[start + 2] * 256, start + 1]
    rows = [[*draws.integers(0, 256, words), *middle] for words, middle in ((5, picture), (30, []), (9, picture))]
    width = max(map(len, rows))
    ids = np.array([[qwen_vl_cases.RANKS] * (width - len(row)) + row for row in rows])
    images = draws.standard_normal((2, 3, 56, 56)).astype(np.float32)
    np.savez(folder / "words.npz", input_ids=ids, attention_mask=(ids != qwen_vl_cases.RANKS) * 1, images=images)


def noise(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def answers(name: str, model, folder: Path) -> dict[str, np.ndarray]:
    """Logits of every batch; of the batches of three also 32 greedy tokens, and of the last a few in other ways."""
    import paddle

    found = {}
    for batch in ("words",) if name == "Qwen-VL" else ("image", "images", "videos"):
        inputs = inputs_of(model, folder, batch)
        with paddle.no_grad():
            found[f"{name} {batch} logits"] = model(**inputs).logits.numpy()
        if len(inputs["input_ids"]) > 1:
            found[f"{name} {batch} tokens"] = model.generate(**inputs, **GREEDY)[0].numpy()
    found[f"{name} beams tokens"] = model.generate(**inputs, **BEAMS)[0].numpy()
    if name in DEALT:
        check_crowds(model, inputs)
    found[f"{name} seeded tokens"] = model.generate(**inputs, **SAMPLED, seed=11)[0].numpy()
    found[f"{name} unseeded tokens"] = model.generate(**inputs, **SAMPLED)[0].numpy()
    return found


def inputs_of(model, folder: Path, batch: str) -> dict:
    import paddle

    with np.load(folder / f"{batch}.npz") as file:
        known = [key for key in file if key in model.prompt_inputs]  # Qwen2-VL's films have no seconds
        return {key: paddle.to_tensor(file[key]) for key in known}


def check_crowds(model, inputs: dict) -> None:
    """No answer depends on its neighbours; rank 0 draws who comes when, and how much room there is."""
    from paddlemix_qwenvl.engine.ranks import on_all_ranks
    from paddlemix_qwenvl.engine.runner import ModelRunner
    from paddlemix_qwenvl.engine.sequence import Request
    from paddlemix_qwenvl.engine.settings import GenerationSettings
    from paddlemix_qwenvl.models.family import family_of_config

    def prompts() -> list:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return family_of_config(model.config).module("positions").prompts(model.config, arrays)

    def check(prompts: list, runner) -> None:
        requests = st.builds(
            lambda prompt, way: Request(prompt, GenerationSettings(**way)), st.sampled_from(prompts), ways()
        )
        check_neighbours(runner, requests, examples=8)

    on_all_ranks(model.lm_head.parallel, [ModelRunner(model)], prompts, check)


def int8_model(folder: Path):
    """The 7B with its weights as int8, made from bfloat16."""
    return model_class("7B").from_pretrained(folder / "7B", dtype="bfloat16", quantization="int8")


def image_logits(model, folder: Path) -> np.ndarray:
    """Logits `[1, S, vocab]` of the batch of one prompt."""
    import paddle

    with np.load(folder / "image.npz") as file, paddle.no_grad():
        return model(**{key: paddle.to_tensor(value) for key, value in file.items()}).logits.numpy()
