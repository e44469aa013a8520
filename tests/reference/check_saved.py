"""`check_saved.py FOLDER`: transformers loads each checkpoint that save_ours.py wrote and has to give the same logits.

Every tensor has to be found under its name and none may be left over; the processor has to load and to give a text the same
ids. Prints one line a checkpoint; exits with 1 where something differs.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from reading import MODEL_INPUTS, relative_error
from transformers import AutoModelForImageTextToText, AutoProcessor

TOLERANCE = 1e-4


@torch.no_grad()
def check_model(folder: Path, expected: dict[str, np.ndarray]) -> str:
    model, loading = AutoModelForImageTextToText.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True
    )
    if any(loading.values()):
        raise ValueError(f"weights: {loading}")
    inputs = {name: torch.from_numpy(expected[name]) for name in MODEL_INPUTS if name in expected}
    logits = model.eval()(**inputs).logits.numpy()
    error = relative_error(logits[:, -expected["logits"].shape[1] :], expected["logits"])
    if error > TOLERANCE:
        raise ValueError(f"logits differ by {error:.1e}, {TOLERANCE:.0e} is allowed")
    return f"logits differ by {error:.1e}"


def check_processor(folder: Path, expected: dict[str, np.ndarray]) -> str:
    ids = AutoProcessor.from_pretrained(folder).tokenizer(str(expected["text"]))["input_ids"]
    if ids != expected["text_ids"].tolist():
        raise ValueError("the tokenizer gives other ids")
    return "same ids"


def main() -> int:
    transformers.logging.set_verbosity_error()
    files = sorted(Path(sys.argv[1]).glob("*/expected.npz"))
    failed = not files
    for file in files:
        with np.load(file) as opened:
            expected = dict(opened)
        for check in (check_model, check_processor):
            try:
                outcome = check(file.parent, expected)
            except (ValueError, OSError, KeyError) as error:
                failed, outcome = True, f"FAILED, {str(error)[:300]}"
            print(f"{file.parent.name} {check.__name__}: {outcome}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
