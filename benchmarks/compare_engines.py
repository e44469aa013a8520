"""This package's engine and another one's continuous batching on one trace: requests that come all at once.

    python benchmarks/compare_engines.py openvino-genai --peer_python PYTHON [--checkpoint FOLDER] [--threads 2]
    python benchmarks/compare_engines.py llama-server --peer_python PYTHON --server PROGRAM [--dtype int8]

For openvino-genai PYTHON has openvino-genai, and optimum-intel, which converts the checkpoint to int8 once. For llama-server it
has gguf, and PROGRAM is llama.cpp's server, built on this machine; its prompts are text of the same length. Each engine has
processes of its own, by turns; the first of a process's repeats does not count.
"""

import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import HERE, cpu_name, make_once, run
from options import DType
from peers import openvino_model
from random_checkpoint import config_3b
from turns import in_rounds, ratios, spread, versions
from typer import Option
from words import tokenizer_json

from paddlemix_qwenvl.commands.options import grouped, with_defaults

IMAGE_SIDE = 448
IMAGE_TOKENS = (IMAGE_SIDE // 28) ** 2 + 2  # its bounds are two
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PeerPython = Annotated[Path, Option("--peer_python", help="an interpreter with the other's packages")]
Requests = Annotated[int, Option("--requests")]
TextTokens = Annotated[int, Option("--text_tokens", help="beside the picture's")]
Processes = Annotated[int, Option("--processes", min=1, help="of each engine, by turns")]


@app.command()
@partial(with_defaults, new_tokens=128, repeats=1)
@grouped
def openvino_genai(
    peer_python: PeerPython,
    requests: Requests = 8,
    text_tokens: TextTokens = 256,
    processes: Processes = 3,
    *,
    work: options.Work,
) -> None:
    """A picture and text in each request, int8 against int8."""
    with trace(work, requests, text_tokens, pictures=True) as (folder, file):
        model = openvino_model(folder, DType.int8, peer_python)
        sides = {
            "ours": ("run_trace.py", sys.executable, [folder, file, "int8"]),
            "OpenVINO GenAI": ("run_openvino_genai.py", peer_python, [folder, file, model]),
        }
        alternate(sides, work, processes)


@app.command()
@partial(with_defaults, new_tokens=128, repeats=1)
@grouped
def llama_server(
    peer_python: PeerPython,
    server: Annotated[Path, Option("--server", help="llama.cpp's llama-server")],
    dtype: Annotated[DType, Option("--dtype", help="of both; int8 is Q8_0")] = DType.int8,
    requests: Requests = 8,
    text_tokens: TextTokens = 256,
    processes: Processes = 3,
    *,
    work: options.Work,
) -> None:
    """Text in each request, as much as picture and text take together."""
    with trace(work, requests, IMAGE_TOKENS + text_tokens, pictures=False) as (folder, file):
        subprocess.run([peer_python, HERE / "gguf_file.py", folder, dtype.value], check=True)
        sides = {
            "ours": ("run_trace.py", sys.executable, [folder, file, dtype.value]),
            "llama-server": ("run_llama_server.py", sys.executable, [folder, file, dtype.value, server.resolve()]),
        }
        alternate(sides, work, processes)


@contextmanager
def trace(work: options.Work, requests: int, text_tokens: int, pictures: bool):
    """The checkpoint's folder, and a file with texts of digits, each of which is one token, their `ids`, and pictures."""
    generator = np.random.default_rng(0)
    digits = generator.integers(0, 10, (requests, text_tokens))
    vocabulary = tokenizer_json()["model"]["vocab"]
    arrays = {"digits": digits, "ids": np.array([vocabulary[str(digit)] for digit in range(10)])[digits]}
    if pictures:
        arrays["pictures"] = generator.integers(0, 256, (requests, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        folder, file = work.checkpoint or Path(scratch) / "checkpoint", Path(scratch) / "trace.npz"
        make_once(folder, config_3b(work.layers, work.vision_blocks))
        np.savez(file, **arrays)
        about = f"text of {text_tokens} tokens" + f" and a {IMAGE_SIDE} px picture" * pictures
        print(f"{requests} requests at once: {about}, {work.new_tokens} new tokens", flush=True)
        yield folder, file


def alternate(sides: dict, work: options.Work, processes: int) -> None:
    """Run the sides' scripts by turns and print a table."""
    runs = {
        name: partial(run, script, str(python), [*map(str, arguments), *work.given()])
        for name, (script, python, arguments) in sides.items()
    }
    found = in_rounds(runs, processes)
    print(
        f"\n{cpu_name()}, {work.threads} threads, {processes} processes each by turns, {work.repeats} repeats in each\n"
    )
    print("| | versions | tokens/s, median [least to largest] | load, s | peak memory, GB |\n|---|---|---|---|---|")
    for name, results in found.items():
        rates = [rate for result in results for rate in result["rates"]]
        load, memory = (statistics.median(result[part] for result in results) for part in ("load", "memory"))
        print(f"| {name} | {versions(results[0])} | {spread(rates)} | {load:.2f} | {memory:.2f} |")
    ours, theirs = ([statistics.median(result["rates"]) for result in results] for results in found.values())
    print(f"\nours / theirs: {spread(ratios(ours, theirs))}")
    print("tokens of a prompt:", ", ".join(f"{name} {results[0]['prompt']}" for name, results in found.items()))


if __name__ == "__main__":
    app()
