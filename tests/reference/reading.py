"""Reads a reference folder: plain NumPy and Pillow, so that both sides of the comparison can use it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)


def parts_of(conversations: list, kind: str):
    """The content parts of one kind in a batch of conversations, in order."""
    for message in (message for conversation in conversations for message in conversation):
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if part["type"] == kind)


def open_images(conversations: list, folder: Path) -> list[Image.Image]:
    return [Image.open(folder / part["image"]) for part in parts_of(conversations, "image")]


def open_videos(conversations: list, folder: Path) -> list[list[Image.Image]]:
    return [[Image.open(folder / frame) for frame in part["video"]] for part in parts_of(conversations, "video")]


class Reference:
    """A reference folder. `cases` maps "CHECKPOINT-CASE" to the manifest's entry."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        self.cases = {f"{case['checkpoint']}-{case['name']}": case for case in self.manifest["cases"]}
        self.checkpoints = list(self.manifest["checkpoints"])

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / file) as opened:
            return dict(opened)


def model_inputs(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What of a case's arrays goes into the model; seconds as the float32 that a processor returns."""
    inputs = {name: arrays[name] for name in MODEL_INPUTS if name in arrays}
    if "second_per_grid_ts" in inputs:
        inputs["second_per_grid_ts"] = inputs["second_per_grid_ts"].astype("float32")
    return inputs


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value expected."""
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def read_safetensors(folder: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder's safetensors files."""
    return {name: value for file in Path(folder).glob("*.safetensors") for name, value in load_file(file).items()}
