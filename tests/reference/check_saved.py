"""`check_saved.py FOLDER`: transformers loads each checkpoint that save_ours.py wrote and has to give the same logits.

Every tensor has to be found under its name, none may be left over, and the tokenizer has to know the image token by the
id that the config gives. Prints one line a checkpoint; exits with 1 where something differs.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from reading import relative_error
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

TOLERANCE = 1e-4


@torch.no_grad()
def difference(folder: Path) -> str | None:
    """What is wrong with one saved checkpoint, or None."""
    model, loading = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True
    )
    problems = {key: value for key, value in loading.items() if value}
    if problems:
        return f"transformers reports {problems}"
    token = AutoProcessor.from_pretrained(folder).tokenizer.convert_tokens_to_ids("<|image_pad|>")
    if token != model.config.image_token_id:
        return f"the tokenizer's image token is {token}, the config's {model.config.image_token_id}"
    with np.load(folder / "expected.npz") as file:
        arrays = dict(file)
    expected = arrays.pop("logits")
    logits = model.eval()(**{name: torch.from_numpy(value) for name, value in arrays.items()}).logits
    error = relative_error(logits.numpy()[:, -expected.shape[1] :], expected)
    return None if error <= TOLERANCE else f"logits differ by {error:.1e}, {TOLERANCE:.0e} is allowed"


def main() -> int:
    folders = sorted(path.parent for path in Path(sys.argv[1]).glob("*/expected.npz"))
    if not folders:
        print(f"{sys.argv[1]} holds nothing that save_ours.py wrote")
        return 1
    found = {folder.name: difference(folder) for folder in folders}
    for name, problem in found.items():
        print(f"{name}: {problem or 'the same'}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
