"""`ours.py THEIRS SAVED`: loads what theirs.py saved to THEIRS/NAME, compares, and saves it again to SAVED/NAME by the package."""

import shutil
import sys
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor
from prompts import CHECKPOINTS, TOKENS, every_prompt, largest_differences

import paddlemix_qwenvl  # noqa: F401  (importing it teaches the Auto classes the families)


@paddle.no_grad()
def evaluate(model, processor, prompt) -> dict[str, np.ndarray]:
    """As in theirs.py."""
    text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True, add_vision_id=True)
    media = {"images": prompt.images} if prompt.images else {"videos": [prompt.frames], "fps": prompt.fps}
    inputs = processor(text=[text], return_tensors="pd", **media)
    given = {name: value for name, value in inputs.items() if not name.endswith("_sizes")}
    logits = model(**given).logits[:, -8:]
    settings = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    tokens, _ = model.generate(**inputs, **settings)
    return {
        **{name: value.numpy() for name, value in given.items()},
        "text": text,
        "logits": logits.numpy(),
        "tokens": tokens.numpy(),
    }


def main(theirs: Path, saved: Path) -> None:
    for name in CHECKPOINTS:
        folder = theirs / name
        model = AutoModelForConditionalGeneration.from_pretrained(str(folder), dtype="float32")
        model.eval()
        processor = AutoProcessor.from_pretrained(str(folder))
        with np.load(folder / "expected.npz") as opened:
            expected = dict(opened)
        for prompt in every_prompt():
            print(f"we load their {name}, {prompt.name}:", end=" ")
            print(largest_differences(evaluate(model, processor, prompt), expected, prompt.name))
        model.save_pretrained(str(saved / name), max_shard_size="2MB")
        processor.save_pretrained(str(saved / name))
        shutil.copy(folder / "expected.npz", saved / name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
