"""Times transformers on a checkpoint: `run_transformers.py FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`, for compare.py.

The decode loop is a bare one, without `generate`'s bookkeeping, so that what is timed is the model.
"""

import sys

import torch
from measure import timed, torch_main
from transformers import Qwen2_5_VLForConditionalGeneration


@torch.inference_mode()
def run(model, inputs: dict[str, torch.Tensor], count: int) -> tuple[dict[str, float], list[int]]:
    """Seconds of the vision tower, the rest of the prefill and one decode step; and the tokens, chosen greedily."""
    pixels, grid = inputs["pixel_values"].to(model.dtype), inputs["image_grid_thw"]
    vision, _ = timed(lambda: model.model.get_image_features(pixels, grid))
    model.model.rope_deltas = None
    prefill, output = timed(lambda: model(**{**inputs, "pixel_values": pixels}, use_cache=True, logits_to_keep=1))
    length = inputs["input_ids"].shape[1]

    tokens = [output.logits[:, -1:].argmax(-1)]

    def decode():
        for position in range(length, length + count - 1):
            place = {"past_key_values": output.past_key_values, "cache_position": torch.tensor([position])}
            tokens.append(model(input_ids=tokens[-1], **place, logits_to_keep=1).logits[:, -1:].argmax(-1))

    seconds, _ = timed(decode)
    times = {"vision": vision, "prefill": prefill - vision, "decode": seconds / (count - 1)}
    return times, torch.cat(tokens, 1)[0].tolist()


def main(folder: str, inputs: str, dtype: str, *how: str) -> None:
    def load():
        how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, **how).eval()

    torch_main(load, run, inputs, *how)


if __name__ == "__main__":
    main(*sys.argv[1:])
