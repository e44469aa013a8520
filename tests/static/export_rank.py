"""One rank of a group that exports and serves: `python -m paddle.distributed.launch ... export_rank.py FOLDER`."""

import json
import sys
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.parallel import init_tensor_parallel
from paddlemix_qwenvl.static.export import export, load
from paddlemix_qwenvl.static.loading import load_export

SETTINGS = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": False}
SAMPLED = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": True, "top_k": 0}


def conversation() -> list:
    picture = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    return [
        {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What is this?"}]}
    ]


def main(folder: Path) -> None:
    parallel = init_tensor_parallel()
    model, processor = load(str(folder / "hub"), "float32")
    export(model, processor, folder / "export")
    parallel.all_reduce(processor_ready())
    predictor = load_export(folder / "export")
    found = {
        "greedy": predictor.answer(conversation(), **SETTINGS).token_ids,
        "unseeded": predictor.answer(conversation(), **SAMPLED).token_ids,
    }
    (folder / f"rank-{parallel.rank}.json").write_text(json.dumps(found))


def processor_ready():
    import paddle

    return paddle.ones([1])  # all wait until rank 0 has renamed the folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))
