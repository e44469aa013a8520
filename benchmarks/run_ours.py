"""Times this package on a checkpoint: `run_ours.py FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`, for compare.py."""

import sys

import numpy as np
from measure import generated, loaded, report
from options import DType


def main(folder: str, inputs: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    import paddle
    from paddlenlp.transformers import AutoModelForConditionalGeneration

    import paddlemix_qwenvl  # noqa: F401, registers the model

    arguments = {name: paddle.to_tensor(value) for name, value in np.load(inputs).items()}
    load, model = loaded(lambda: AutoModelForConditionalGeneration.from_pretrained(folder, **DType(dtype).given()))
    count = int(tokens)
    runs = []
    for _ in range(int(repeats) + 1):
        seconds, ids = generated(model, **arguments, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        assert ids.shape[1] == count, f"{ids.shape[1]} new tokens instead of {count}"
        runs.append({**seconds, "decode": seconds["decode"] / (count - 1)})
    versions = {"paddlepaddle": paddle.__version__, "OMP_NUM_THREADS": threads}
    report(versions, load, runs[1:], ids[0].tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
