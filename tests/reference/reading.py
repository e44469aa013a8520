"""Reads what make_reference.py wrote, for the side that runs the package."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)


class Reference:
    """A reference folder. `cases` maps "CHECKPOINT-CASE" to the manifest's entry."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        self.cases = {f"{case['checkpoint']}-{case['name']}": case for case in self.manifest["cases"]}
        self.checkpoints = list(self.manifest["checkpoints"])

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def arrays(self, case: dict) -> dict[str, np.ndarray]:
        with np.load(self.folder / case["file"]) as file:
            return dict(file)

    def images(self, case: dict) -> list[Image.Image]:
        return [Image.open(self.folder / part["image"]) for part in self._parts(case) if part["type"] == "image"]

    def videos(self, case: dict) -> list[list[Image.Image]]:
        clips = (part["video"] for part in self._parts(case) if part["type"] == "video")
        return [[Image.open(self.folder / frame) for frame in frames] for frames in clips]

    @staticmethod
    def _parts(case: dict):
        for message in (message for conversation in case["conversations"] for message in conversation):
            yield from message["content"] if isinstance(message["content"], list) else ()


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
