"""Small quantised folders, and the prompt that transformers and the package answer greedily. Needs NumPy alone."""

import hub_model
import numpy as np
import quantised_files as files

CONFIG = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vision_config={"out_hidden_size": 64},
)
ORDER = {width: np.random.default_rng(width).permutation(width) for width in (64, 96)}
KINDS = {  # the method, what it makes of a module's weight
    **{name: (files.METHODS[name], files.QUANTISE[name]) for name in files.METHODS},
    "gptq, act-order": (
        {**files.METHODS["gptq"], "desc_act": True},
        lambda name, w: files.gptq(w, 32, act_order=ORDER[w.shape[1]]),
    ),
}
NEW_TOKENS = 24


def tensors(kind: str) -> tuple[dict, dict]:
    """Those of the quantised folder, and the dense ones that they stand for."""
    return files.converted(hub_model.tensors(CONFIG), KINDS[kind][1], files.in_decoder)


def prompt() -> dict[str, np.ndarray]:
    """Words with a picture of 4 x 8 patches among them."""
    vision = [CONFIG["vision_start_token_id"], *[CONFIG["image_token_id"]] * 8, CONFIG["vision_end_token_id"]]
    patches = np.random.default_rng(3).standard_normal((32, 1176)).astype(np.float32)
    return {
        "input_ids": np.array([[5, 77, *vision, 200, 31, 8, 9, 41]]),
        "pixel_values": patches,
        "image_grid_thw": np.array([[1, 4, 8]]),
    }
