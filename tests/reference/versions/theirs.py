"""The side of a newer transformers, 4.57 or 5, in the environment of requirements-4.57.txt or requirements-5.txt.

theirs.py write REFERENCE OUT   loads checkpoints that make_reference.py wrote, saves them to OUT/NAME as this version does,
                                and writes to OUT/NAME/expected.npz what it makes of a few prompts
theirs.py check SAVED           loads what ours.py saved to SAVED/NAME and compares with what is in its expected.npz
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision_stand_in  # noqa: F401, before transformers
import transformers
from prompts import CHECKPOINTS, CLEAR_GAP, TOKENS, every_prompt, largest_differences
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

IS_5 = transformers.__version__.startswith("5.")


def load(folder: Path) -> tuple:
    """Model in float32 and processor, whose pictures are resized by Pillow, as 4.51's are."""
    kind = {"dtype" if IS_5 else "torch_dtype": torch.float32}
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True, **kind)
    if left := {name: keys for name, keys in loading.items() if keys}:
        raise ValueError(f"weights: {left}")
    processor = AutoProcessor.from_pretrained(folder)
    pillow = {"backend": "pil"} if IS_5 else {"use_fast": False}
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, **pillow)
    return model.eval(), processor


@torch.no_grad()
def evaluate(model, processor, prompt) -> dict[str, np.ndarray]:
    """Text, inputs, last logits and greedy tokens, up to the first that is near a tie."""
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, add_vision_id=True)
    media = {"images": prompt.images} if prompt.images else {"videos": [prompt.frames]}
    if not prompt.images:  # 5 takes seconds from metadata, 4.57 from the rate
        count = len(prompt.frames)
        metadata = {"fps": prompt.fps, "total_num_frames": count, "frames_indices": list(range(count))}
        media |= {"video_metadata": [metadata]} if IS_5 else {"fps": prompt.fps}
    inputs = processor(text=[text], return_tensors="pt", **media)
    logits = model(**inputs).logits[:, -8:]
    settings = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    run = model.generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)
    best = torch.stack(run.logits, 1).topk(2, dim=-1).values[0]
    unclear = (best[:, 0] - best[:, 1]) / best.abs().max() < CLEAR_GAP
    clear = int(unclear.nonzero()[0]) if unclear.any() else TOKENS
    tokens = run.sequences[:, inputs["input_ids"].shape[1] :][:, :clear]
    found = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    return {
        **{name: np.asarray(value) for name, value in found.items()},
        "text": np.array(text),
        "logits": logits,
        "tokens": tokens,
    }


def write(reference: Path, out: Path) -> int:
    for name in CHECKPOINTS:
        model, processor = load(reference / "checkpoints" / name)
        folder = out / name
        model.save_pretrained(folder, max_shard_size="300KB" if name == CHECKPOINTS[-1] else "5GB")
        processor.save_pretrained(folder)
        found = {}
        for prompt in every_prompt():
            found |= {f"{prompt.name}/{key}": value for key, value in evaluate(model, processor, prompt).items()}
        np.savez_compressed(folder / "expected.npz", **found)
        print(
            f"transformers {transformers.__version__} saved {name}: {', '.join(sorted(p.name for p in folder.iterdir()))}"
        )
    return 0


def check(saved: Path) -> int:
    folders = sorted(path.parent for path in saved.glob("*/expected.npz"))
    for folder in folders:
        model, processor = load(folder)
        with np.load(folder / "expected.npz") as opened:
            expected = dict(opened)
        for prompt in every_prompt():
            print(f"transformers {transformers.__version__} loads our {folder.name}, {prompt.name}:", end=" ")
            print(largest_differences(evaluate(model, processor, prompt), expected, prompt.name))
    return int(len(folders) != len(CHECKPOINTS))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    command, *folders = sys.argv[1:]
    sys.exit({"write": write, "check": check}[command](*map(Path, folders)))
