"""This package and llama.cpp on the language model of one random checkpoint, the same prompt of words, the same threads, in one go.

    python benchmarks/compare_llama_cpp.py --peer_python PYTHON [--dtype int8] [--layers 12] [--prompt 860] [--threads 2]

PYTHON is an interpreter with llama-cpp-python (built on this machine, for this machine's instructions) and gguf. int8 is
held against Q8_0, int4 against Q4_K_M. Each round has a process of each engine, by turns; the first of a process's repeats does
not count.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once, run
from options import DType
from random_checkpoint import config_3b
from turns import in_rounds, print_both

from paddlemix_qwenvl.commands.options import grouped, with_defaults


@partial(with_defaults, repeats=1)
@grouped
def main(
    peer_python: Annotated[Path, typer.Option("--peer_python", help="has llama-cpp-python and gguf")],
    dtype: Annotated[DType, typer.Option("--dtype", help="of both")] = DType.bfloat16,
    prompt: Annotated[int, typer.Option("--prompt", help="tokens")] = 860,
    rounds: options.Rounds = 5,
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
        scripts = {"run_ours.py": sys.executable, "run_llama_cpp.py": str(peer_python)}
        sides = {script: partial(run, script, python, given) for script, python in scripts.items()}
        ours, peer = in_rounds(sides, rounds).values()
    print(f"\n{work.layers} layers of the 3B's widths, prompt of {prompt} tokens, {work.new_tokens} new")
    print(f"{cpu_name()}, {work.threads} threads, {rounds} rounds by turns, {dtype.value}")
    print_both(ours, peer, "llama.cpp")


if __name__ == "__main__":
    typer.run(main)
