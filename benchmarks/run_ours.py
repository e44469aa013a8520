"""Times this package on a checkpoint: `run_ours.py FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`, for compare.py."""

import sys

import numpy as np
from measure import generated, loaded, report
from options import DType


def main(folder: str, inputs: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    import paddlemix_qwenvl  # noqa: F401, I001, prepares the process for Paddle
    import paddle
    from paddlemix_qwenvl.engine.generate import generating
    from paddlemix_qwenvl.models.auto import find_family

    arguments = {name: paddle.to_tensor(value) for name, value in np.load(inputs).items()}
    kind = generating(find_family(folder).load("model"))  # as commands and the server load, without PaddleNLP
    load, model = loaded(lambda: kind.from_pretrained(folder, **DType(dtype).given()))
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
