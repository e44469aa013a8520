"""Times llama.cpp on the language model of a checkpoint: `run_llama_cpp.py FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`, for
compare_llama_cpp.py.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import llama_cpp as llama
import numpy as np
from gguf_file import write_gguf
from measure import loaded, report, timed


def model_file(folder: Path, dtype: str) -> Path:
    """The language model in GGUF; in 4 bits what llama.cpp itself makes of bfloat16 as Q4_K_M."""
    if dtype != "int4":
        return write_gguf(folder, dtype)
    path = folder / "text-int4.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        parameters = llama.llama_model_quantize_default_params()
        parameters.ftype = llama.LLAMA_FTYPE_MOSTLY_Q4_K_M
        source = str(write_gguf(folder, "bfloat16")).encode()
        if llama.llama_model_quantize(source, str(part).encode(), parameters):
            raise SystemExit("llama_model_quantize failed")
        part.rename(path)
    return path


def open_model(path: Path, context: int, threads: int):
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch = context, context
    parameters.n_threads = parameters.n_threads_batch = threads
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    return llama.llama_init_from_model(model, parameters)


def next_token(context, ids: list[int], vocabulary: int) -> int:
    """Run `ids` on what the context holds; the likeliest token after them."""
    tokens = (llama.llama_token * len(ids))(*ids)  # the batch only points to it
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(ids))):
        raise SystemExit("llama_decode failed")
    return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocabulary,)).argmax())


def main(folder: str, inputs: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    ids, count = np.load(inputs)["input_ids"][0].tolist(), int(tokens)
    vocabulary = json.loads((Path(folder) / "config.json").read_text())["vocab_size"]
    path = model_file(Path(folder), dtype)
    load, context = loaded(lambda: open_model(path, len(ids) + count, int(threads)))
    runs = []
    for _ in range(int(repeats) + 1):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        prefill, token = timed(lambda: next_token(context, ids, vocabulary))
        answer = [token]

        def decode(answer=answer):
            while len(answer) < count:
                answer.append(next_token(context, answer[-1:], vocabulary))

        seconds, _ = timed(decode)
        runs.append({"vision": 0.0, "prefill": prefill, "decode": seconds / (count - 1)})
    report({"llama-cpp-python": version("llama-cpp-python"), "threads": threads}, load, runs[1:], answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
