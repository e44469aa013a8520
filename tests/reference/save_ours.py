"""`save_ours.py REFERENCE OUT`: loads each checkpoint of a reference folder with the package and saves it again.

Beside each, in OUT/NAME/expected.npz, are a prompt's inputs and the logits that the package computes for it, and some text
and its ids; check_saved.py, in the other environment, loads what was saved with transformers and compares.
"""

import sys
from pathlib import Path

import numpy as np
import paddle
from cases import TEXTS
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor
from reading import Reference, model_inputs

import paddlemix_qwenvl  # noqa: F401  (importing it teaches the Auto classes the families)


@paddle.no_grad()
def save_ours(reference: Reference, name: str, folder: Path) -> None:
    source = str(reference.checkpoint(name))
    model = AutoModelForConditionalGeneration.from_pretrained(source, dtype="float32")
    model.eval()
    model.save_pretrained(str(folder), max_shard_size="2MB")
    processor = AutoProcessor.from_pretrained(source)
    processor.save_pretrained(str(folder))
    inputs = model_inputs(reference.arrays(reference.cases[f"{name}-three_images"]["file"]))
    logits = model(**{key: paddle.to_tensor(value) for key, value in inputs.items()}).logits
    text = "".join(TEXTS)
    expected = {
        "logits": logits.numpy()[:, -8:],
        "text": np.array(text),
        "text_ids": processor.tokenizer(text)["input_ids"],
    }
    np.savez_compressed(folder / "expected.npz", **inputs, **expected)


if __name__ == "__main__":
    reference = Reference(sys.argv[1])
    for name in reference.checkpoints:
        save_ours(reference, name, Path(sys.argv[2]) / name)
