"""One rank of a group: `python -m paddle.distributed.launch ... rank.py FOLDER` writes `FOLDER/rank-N.npz`."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cases
import hub_model
import numpy as np

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import QwenVLError
from paddlemix_qwenvl.parallel import init_tensor_parallel

SPLIT_BY_NO_DEGREE = {
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "rope_scaling": {"mrope_section": [2, 3, 3]},
    "vision_config": {"num_heads": 4},
}


def main(folder: Path) -> None:
    parallel = init_tensor_parallel()
    found = {"degree": parallel.degree}
    for name in cases.MODELS:
        model = cases.model_class(name).from_pretrained(folder / name)
        found |= cases.answers(name, model, folder)
        found[f"{name} weight bytes"] = sum(p.numel().item() * p.element_size() for p in model.parameters())
        cache = model.allocate_cache(batch=1, capacity=5).cache
        found[f"{name} cache bytes"] = sum(t.numel().item() * t.element_size() for t in cache.keys + cache.values) // 5
    for name in cases.DEALT:
        dealt = cases.model_class(name).from_pretrained(folder / name, vision_parallel="data")
        found |= {f"dealt {key}": value for key, value in cases.answers(name, dealt, folder).items()}
    found["broken"] = error_of(lambda: broken_answer(dealt, folder))
    found["whole tokens"] = whole_answer(dealt, folder)
    found["int8 logits"] = cases.image_logits(cases.int8_model(folder), folder)
    found["save"] = error_of(lambda: model.save_pretrained(folder / "saved"))
    found["heads"] = error_of(lambda: without_weights(SPLIT_BY_NO_DEGREE))
    found["vision heads"] = error_of(lambda: without_weights({"vision_config": {"num_heads": 1}}))
    found["shard"] = error_of(lambda: Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "incomplete"))
    np.savez(folder / f"rank-{parallel.rank}.npz", **found)


def broken_answer(model, folder: Path) -> None:
    """Rank 0's criterion, which alone is asked, raises in the middle of an answer."""

    def criterion(ids, scores):
        if ids.shape[1] - given["input_ids"].shape[1] == 3:
            raise ZeroDivisionError("by a criterion")

    given = cases.inputs_of(model, folder, "images")
    model.generate(**given, **cases.GREEDY, stopping_criteria=criterion)


def whole_answer(model, folder: Path) -> np.ndarray:
    """What comes after a broken answer, of a rank that is given something else than rank 0, by a thread of its own."""
    other = model.lm_head.parallel.rank
    given = cases.inputs_of(model, folder, "videos" if other else "images")
    with ThreadPoolExecutor() as pool:
        return pool.submit(model.generate, **given, **cases.GREEDY, remember_images=True).result()[0].numpy()


def without_weights(changes: dict) -> None:
    config = Qwen2_5_VLConfig(**hub_model.config(**changes))
    Qwen2_5_VLForConditionalGeneration.without_memory(config, "float32")


def error_of(action) -> str:
    try:
        action()
    except (QwenVLError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
