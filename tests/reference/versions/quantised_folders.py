"""Loads folders that `paddlemix-qwenvl quantize` wrote in transformers with compressed-tensors, beside the numbers of their files.

Needs PyTorch, safetensors, transformers 5 and compressed-tensors. Of the demo by method rtn, int8 and fp8:

    python quantised_folders.py FOLDER ...
"""

import sys

import torch
import torchvision_stand_in  # noqa: F401, before transformers
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, CompressedTensorsConfig

IDS = torch.tensor([[5, 77, 200, 31, 8, 9, 41]])


def numbers(words: torch.Tensor) -> torch.Tensor:
    """The half-bytes of int32 `[n, m]`, the lowest first: `[n, 8 * m]`."""
    return torch.stack([words >> shift & 15 for shift in range(0, 32, 4)], -1).flatten(1)


def value(tensors: dict, module: str) -> torch.Tensor:
    """What the numbers of a module stand for, by the facts of the format."""
    scale = tensors[f"{module}.weight_scale"].float()
    if f"{module}.weight" in tensors:
        return tensors[f"{module}.weight"].float() * scale
    outputs, inputs = tensors[f"{module}.weight_shape"].tolist()
    size = inputs // scale.shape[1]
    zeros = numbers(tensors[f"{module}.weight_zero_point"].T)[:, :outputs].T
    values = numbers(tensors[f"{module}.weight_packed"])[:, :inputs] - zeros.repeat_interleave(size, 1)
    return values * scale.repeat_interleave(size, 1)


def newer(name: str) -> str:
    """What transformers 5 calls a tensor."""
    if name.startswith("visual."):
        return f"model.{name}"
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


def check(folder: str) -> None:
    """Every weight is what the file's numbers stand for, and the model computes."""
    tensors = load_file(f"{folder}/model.safetensors")
    config = CompressedTensorsConfig(dequantize=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", quantization_config=config)
    held, seen = dict(model.named_parameters()), 0
    modules = [name.removesuffix("_scale") for name in tensors if name.endswith(".weight_scale")]
    for name in modules:
        assert torch.equal(held[newer(name)].float(), value(tensors, name.removesuffix(".weight"))), name
    for name, tensor in tensors.items():
        if name not in modules and newer(name) in held:
            assert torch.equal(held[newer(name)], tensor), name
            seen += 1
    assert len(modules) == 35 and seen + len(modules) == len(held)
    assert torch.isfinite(model(IDS).logits).all()
    print(f"{folder}: {len(modules)} quantised and {seen} other weights are those of the file")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        check(each)
