"""This package and others on the same random checkpoint, the same picture and words and the same threads, by turns.

    python benchmarks/compare.py [--peer transformers --peer openvino] [--dtype bfloat16 --dtype int8] [--rounds 5]

Each round has a process of each engine and dtype, and one that reads memory as fast as it can; every second round goes backwards,
so that a swing of the machine hits all. The first of a process's repeats does not count, its figure is the median of the rest;
what is printed are medians and least figures of the rounds, and of the rounds' ratios the median, least and largest.

What is counted: "vision" is the tower with its merger, "prefill" the rest up to the first token, "decode" a step after it, on
average. Ours and transformers are given tokens and patches that are there; transformers steps in a bare loop. OpenVINO GenAI is
given text and picture, and its own figures are taken: its vision also has the picture's preparation and the words' embeddings,
its prefill tokenizing (run_openvino.py). Memory is the process's highest, mapped files included.

A peer runs in .venv-NAME, made on the first run, or by the interpreters that --peer_python names, one for each --peer.
transformers has no weights in 8 or 4 bits on CPU and is held against those in bfloat16. OpenVINO's are in the dtype that ours
are in, for bfloat16 stored in float16 and computed in bfloat16, converted once by optimum-cli and kept beside the checkpoint, as
ours in 8 and 4 bits are. In 8 and 4 bits OpenVINO's precision of activations is its own choice.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from options import DType
from peers import Peer, environment, openvino_model
from random_checkpoint import config_3b, write_checkpoint
from turns import in_rounds, print_both, spread
from words import tokenizer_json

from paddlemix_qwenvl.commands.options import grouped, with_defaults
from paddlemix_qwenvl.media import preprocess_images

HERE = Path(__file__).parent
QUANTIZED = (DType.int8, DType.int4)


@partial(with_defaults, repeats=1)
@grouped
def main(
    dtypes: Annotated[list[DType], typer.Option("--dtype", help="of our weights")] = (DType.float32,),
    peers: Annotated[list[Peer], typer.Option("--peer", help="may be given several times")] = (Peer.transformers,),
    peer_pythons: Annotated[
        list[Path] | None, typer.Option("--peer_python", help="a peer's interpreter; one for each --peer")
    ] = None,
    rounds: options.Rounds = 5,
    image_side: Annotated[int, typer.Option("--image_side", help="pixels")] = 784,
    text_tokens: Annotated[int, typer.Option("--text_tokens", help="beside the image's")] = 76,
    *,
    work: options.Work,
) -> None:
    if peer_pythons and len(peer_pythons) != len(peers):
        raise typer.BadParameter("give one for each --peer, in their order", param_hint="--peer_python")
    pythons = dict(zip(peers, peer_pythons or map(environment, peers), strict=True))
    config = config_3b(work.layers, work.vision_blocks)
    with tempfile.TemporaryDirectory() as scratch:
        folder, inputs = work.checkpoint or Path(scratch) / "checkpoint", Path(scratch) / "inputs.npz"
        count = make_once(folder, config)
        prompt = write_inputs(inputs, config, image_side, text_tokens)
        sides = {"memory": partial(run, "run_reading.py", sys.executable, [str(folder), *work.given()])}
        for dtype in dtypes:
            ours = [str(folder), str(inputs), dtype.value, *work.given()]
            if dtype in QUANTIZED:
                run("run_ours.py", sys.executable, [*ours[:-1], "1"])  # writes what is loaded from then on
            sides["ours", dtype] = partial(run, "run_ours.py", sys.executable, ours)
            for peer, python in pythons.items():
                theirs = peer_dtype(peer, dtype)
                model = openvino_model(folder, theirs, python) if peer is Peer.openvino else folder
                given = [str(model), str(inputs), theirs.value, *work.given()]
                sides[peer, theirs] = partial(run, f"run_{peer.value}.py", str(python), given)
        found = in_rounds(sides, rounds)
    print(f"\none {image_side} x {image_side} image, prompt of {prompt} tokens, {work.new_tokens} new")
    print(f"{cpu_name()}, {work.threads} threads, {rounds} rounds by turns, {work.repeats} repeats in each process")
    print(f"memory gave {spread([each['reading'] for each in found['memory']], 1)} GB/s")
    for dtype in dtypes:
        print(f"\n{count / 1e9:.2f} B parameters, {count * dtype.width / 1e9:.2f} GB in {dtype.value}")
        for peer in peers:
            theirs = peer_dtype(peer, dtype)
            print(f"\n{peer.value} in {theirs.value}")
            print_both(found["ours", dtype], found[peer, theirs], peer.value)


def peer_dtype(peer: Peer, dtype: DType) -> DType:
    """What of the peer's is held against our `dtype`."""
    return DType.bfloat16 if peer is Peer.transformers and dtype in QUANTIZED else dtype


def make_once(folder: Path, config: dict, shapes: dict | None = None) -> int:
    """Write the checkpoint unless one with this config is there; returns its number of parameters. What a load quantizes of it
    is kept below it from now on."""
    os.environ.setdefault("QWENVL_CACHE", str(folder / "quantized"))
    if (folder / "config.json").is_file():
        if json.loads((folder / "config.json").read_text()) != config:
            raise typer.BadParameter(f"{folder} holds another model", param_hint="--checkpoint")
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        return index["metadata"]["total_size"] // 2
    print("writing the checkpoint ...", flush=True)
    return write_checkpoint(folder, config, shapes=shapes)


def write_inputs(path: Path, config: dict, side: int, text_tokens: int) -> int:
    """A random picture and random words around it, as our processor would hand them over; returns the prompt's length.

    The words are digits, each of which is a token in any text, and the picture itself is in `picture.npy` beside `path`.
    """
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (side, side, 3), np.uint8)
    np.save(path.with_name("picture.npy"), picture)
    image = preprocess_images([picture])
    count = int(image["image_grid_thw"].prod()) // config["vision_config"]["spatial_merge_size"] ** 2
    vocabulary = tokenizer_json()["model"]["vocab"]
    words = np.array([vocabulary[str(digit)] for digit in generator.integers(0, 10, text_tokens - 2)])
    before, after = words[: len(words) // 2], words[len(words) // 2 :]
    start, end, pad = (config[f"{name}_token_id"] for name in ("vision_start", "vision_end", "image"))
    ids = np.concatenate([before, [start], [pad] * count, [end], after]).astype(np.int64)[None]
    media = {name: image[name] for name in ("pixel_values", "image_grid_thw")}
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), **media)
    return ids.shape[1]


def run(script: str, python: str, arguments: list[str]) -> dict:
    """The last line of the script's output, as JSON."""
    print(f"{script} ...", flush=True)
    warm_up(Path(arguments[0]))
    environment = {**os.environ, "OMP_NUM_THREADS": arguments[-3], "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run([python, HERE / script, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(f"{script} failed with exit status {process.returncode}; its own words are above")
    return json.loads(process.stdout.splitlines()[-1])


def warm_up(folder: Path) -> None:
    """The same start for every engine: weight files in the file cache, and as much memory as they take in float32 touched
    once, because a virtual machine's first use of a page can cost more than what is done with it."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    for path in files:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    np.ones(2 * sum(path.stat().st_size for path in files) // 8)


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    typer.run(main)
