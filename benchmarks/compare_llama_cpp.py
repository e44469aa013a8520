"""This package and llama.cpp on the language model of one random checkpoint, the same prompt of words, the same threads, in one go.

    python benchmarks/compare_llama_cpp.py --peer_python PYTHON [--dtype int8] [--layers 12] [--prompt 860] [--threads 2]

PYTHON is an interpreter with llama-cpp-python (built on this machine, for this machine's instructions) and gguf. int8 is
held against Q8_0. Each engine has a process of its own, one after the other; the first of its repeats does not count, figures
are medians of the rest.
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once, print_both, run
from options import DType
from random_checkpoint import config_3b

from paddlemix_qwenvl.commands.options import grouped


@grouped
def main(
    peer_python: Annotated[Path, typer.Option("--peer_python", help="has llama-cpp-python and gguf")],
    dtype: Annotated[DType, typer.Option("--dtype", help="of both")] = DType.bfloat16,
    prompt: Annotated[int, typer.Option("--prompt", help="tokens")] = 860,
    *,
    work: options.Work,
) -> None:
    config = config_3b(work.layers, work.vision_blocks)
    with tempfile.TemporaryDirectory() as scratch:
        folder = work.checkpoint or Path(scratch) / "checkpoint"
        make_once(folder, config)
        inputs = Path(scratch) / "inputs.npz"
        ids = np.random.default_rng(0).integers(1000, 100000, (1, prompt))
        np.savez(inputs, input_ids=ids, attention_mask=np.ones_like(ids))
        given = [str(folder), str(inputs), dtype.value, *work.given()]
        peer = run("run_llama_cpp.py", str(peer_python), given)
        ours = run("run_ours.py", sys.executable, given)
    print(f"\n{work.layers} layers of the 3B's widths, prompt of {prompt} tokens, {work.new_tokens} new")
    print(f"{cpu_name()}, {work.threads} threads, medians of {work.repeats}, {dtype.value}")
    print_both(ours, peer, "llama.cpp")


if __name__ == "__main__":
    typer.run(main)
