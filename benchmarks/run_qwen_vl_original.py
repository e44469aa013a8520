"""Times Qwen-VL's original PyTorch code: `run_qwen_vl_original.py CODE FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`.

For compare_qwen_vl.py. CODE holds modeling_qwen.py and its neighbours. The decode loop is a bare one, without `generate`'s
bookkeeping, so that what is timed is the model.
"""

import sys
from pathlib import Path

import torch
from measure import timed, torch_main

sys.path.append(str(Path(__file__).parents[1] / "tests" / "reference" / "qwen_vl"))
from make_golden import original


@torch.inference_mode()
def run(model, inputs: dict[str, torch.Tensor], count: int) -> tuple[dict[str, float], list[int]]:
    """Seconds of the vision tower, the rest of the prefill and one decode step; and the tokens, chosen greedily."""
    visual, seconds = model.transformer.visual, []

    def encode(paths):
        vision, features = timed(lambda: visual(inputs["images"]))
        seconds.append(vision)
        return features

    visual.encode = encode
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    prefill, output = timed(lambda: model(input_ids=ids, attention_mask=mask, use_cache=True))
    tokens, cache = [output.logits[:, -1:].argmax(-1)], output.past_key_values

    def decode():
        nonlocal cache, mask
        for _ in range(count - 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            output = model(input_ids=tokens[-1], attention_mask=mask, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            tokens.append(output.logits[:, -1:].argmax(-1))

    decoding, _ = timed(decode)
    times = {"vision": seconds[0], "prefill": prefill - seconds[0], "decode": decoding / (count - 1)}
    return times, torch.cat(tokens, 1)[0].tolist()


def main(code: str, folder: str, inputs: str, dtype: str, *how: str) -> None:
    config = original(Path(code), "configuration_qwen").QWenConfig.from_pretrained(folder)
    config.fp16, config.bf16, config.fp32 = False, dtype == "bfloat16", dtype == "float32"
    architecture = original(Path(code), "modeling_qwen").QWenLMHeadModel

    def load():
        return architecture.from_pretrained(folder, config=config, torch_dtype=getattr(torch, dtype)).eval()

    torch_main(load, run, inputs, *how)


if __name__ == "__main__":
    main(*sys.argv[1:])
