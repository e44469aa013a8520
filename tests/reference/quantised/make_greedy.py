"""Greedy tokens of transformers 4.51.3, float32, on the dense weights that the small quantised folders stand for:

PYTHONPATH=tests python tests/reference/quantised/make_greedy.py tests/reference/quantised/greedy.npz
"""

import sys
import tempfile
from pathlib import Path

import hub_model
import numpy as np
import torch
from reference.quantised import small
from transformers import Qwen2_5_VLForConditionalGeneration


@torch.no_grad()
def answer(folder: Path) -> dict[str, np.ndarray]:
    """The new tokens, and the logits of the first."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.float32).eval()
    inputs = {name: torch.from_numpy(value) for name, value in small.prompt().items()}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    how = {"do_sample": False, "max_new_tokens": small.NEW_TOKENS, "min_new_tokens": small.NEW_TOKENS}
    made = model.generate(**inputs, **how, output_logits=True, return_dict_in_generate=True)
    logits = torch.cat(made.logits)
    best = logits.topk(2).values
    print(folder.name, "least lead of a token chosen:", float((best[:, 0] - best[:, 1]).min()))
    return {"ids": made.sequences[0, inputs["input_ids"].shape[1] :].numpy(), "logits": logits[0].numpy()}


def main(out: str) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in small.KINDS:
            folder = Path(scratch) / kind
            hub_model.write(folder, small.CONFIG, small.tensors(kind)[1])
            found |= {f"{kind}/{name}": value for name, value in answer(folder).items()}
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
