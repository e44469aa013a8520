"""Times this package's engine on a trace: `run_trace.py FOLDER TRACE DTYPE THREADS TOKENS REPEATS`, for compare_engines.py."""

import sys
from pathlib import Path

import numpy as np
import paddle
from measure import loaded, report_rates, timed
from options import DType
from traffic import engine_for, load, prompt_of, request_of, serve


def main(folder: str, trace: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    given = dict(np.load(trace))
    pictures = given.get("pictures", [None] * len(given["ids"]))
    figures, runner = loaded(lambda: load(Path(folder), DType(dtype)))

    def requests():
        pairs = zip(given["ids"], pictures, strict=True)
        return [request_of(prompt_of(runner, ids, picture), int(tokens)) for ids, picture in pairs]

    engine, rates = engine_for(runner, requests()), []
    for _ in range(int(repeats) + 1):
        engine.forget()
        seconds, _ = timed(lambda: serve(engine, requests()))
        rates.append(len(pictures) * int(tokens) / seconds)
    prompt = len(requests()[0].prompt.token_ids)
    report_rates({"paddlepaddle": paddle.__version__, "threads": threads}, figures, prompt, rates[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
