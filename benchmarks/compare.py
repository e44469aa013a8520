"""This package and transformers on the same random checkpoint, the same inputs and the same threads, in one go.

    python benchmarks/compare.py [--dtype bfloat16 --dtype int8] [--layers 12] [--threads 2] [--repeats 3]

Each engine has a process of its own for each dtype, one after the other; the first of its repeats does not count, figures are
medians of the rest. transformers runs in .venv-transformers, made on the first run, or by the interpreter that --peer_python names.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from options import DType
from random_checkpoint import ROOT, config_3b, write_checkpoint

from paddlemix_qwenvl.commands.options import grouped
from paddlemix_qwenvl.media import preprocess_images

HERE = Path(__file__).parent
PEER = ("torch==2.13.0", "transformers==4.57.6", "numpy", "safetensors")


BYTES = {DType.float32: 4, DType.bfloat16: 2, DType.int8: 1}


@grouped
def main(
    dtypes: Annotated[list[DType], typer.Option("--dtype", help="of our weights")] = (DType.float32,),
    peer_dtype: Annotated[
        DType | None, typer.Option("--peer_dtype", help="of theirs (default: the same; bfloat16 against int8)")
    ] = None,
    image_side: Annotated[int, typer.Option("--image_side", help="pixels")] = 784,
    text_tokens: Annotated[int, typer.Option("--text_tokens", help="beside the image's")] = 76,
    peer_python: Annotated[Path | None, typer.Option("--peer_python", help="has transformers and torch")] = None,
    *,
    work: options.Work,
) -> None:
    peer_dtypes = {one: peer_dtype or (DType.bfloat16 if one is DType.int8 else one) for one in dtypes}
    if peer_dtype is DType.int8:
        raise typer.BadParameter("transformers has no int8 on CPU", param_hint="--peer_dtype")
    peer_python = peer_python or peer_environment()
    config = config_3b(work.layers, work.vision_blocks)
    with tempfile.TemporaryDirectory() as scratch:
        folder = work.checkpoint or Path(scratch) / "checkpoint"
        count = make_once(folder, config)
        inputs = Path(scratch) / "inputs.npz"
        prompt = write_inputs(inputs, config, image_side, text_tokens)
        given = work.given()
        files = [str(folder), str(inputs)]
        ours = {one: run("run_ours.py", sys.executable, [*files, one.value, *given]) for one in dtypes}
        theirs = {
            one: run("run_transformers.py", str(peer_python), [*files, one.value, *given])
            for one in dict.fromkeys(peer_dtypes.values())
        }
    print(f"\none {image_side} x {image_side} image, prompt of {prompt} tokens, {work.new_tokens} new")
    print(f"{cpu_name()}, {work.threads} threads, medians of {work.repeats}")
    for dtype, mine in ours.items():
        peer = theirs[peer_dtypes[dtype]]
        print(f"\n{count / 1e9:.2f} B parameters, {count * BYTES[dtype] / 1e9:.2f} GB in {dtype.value}")
        print(f"theirs in {peer_dtypes[dtype].value}")
        print_both(mine, peer, "transformers")


def print_both(ours: dict, peer: dict, name: str) -> None:
    """Versions, figures, and how far the answers agree."""
    print(f"ours: {versions(ours)}\n{name}: {versions(peer)}\n")
    print(table(ours, peer, name))
    same = [mine == theirs for mine, theirs in zip(ours["tokens"], peer["tokens"], strict=True)]
    print(f"\nThe answers agree in their first {[*same, False].index(False)} of {len(same)} tokens.")


def make_once(folder: Path, config: dict, shapes: dict | None = None) -> int:
    """Write the checkpoint unless one with this config is there; returns its number of parameters."""
    if (folder / "config.json").is_file():
        if json.loads((folder / "config.json").read_text()) != config:
            raise typer.BadParameter(f"{folder} holds another model", param_hint="--checkpoint")
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        return index["metadata"]["total_size"] // 2
    print("writing the checkpoint ...", flush=True)
    return write_checkpoint(folder, config, shapes=shapes)


def write_inputs(path: Path, config: dict, side: int, text_tokens: int) -> int:
    """A random picture and random words around it, as our processor would hand them over; returns the prompt's length."""
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (side, side, 3), np.uint8)
    image = preprocess_images([picture])
    count = int(image["image_grid_thw"].prod()) // config["vision_config"]["spatial_merge_size"] ** 2
    words = generator.integers(1000, 100000, text_tokens - 2)
    before, after = words[: len(words) // 2], words[len(words) // 2 :]
    start, end, pad = (config[f"{name}_token_id"] for name in ("vision_start", "vision_end", "image"))
    ids = np.concatenate([before, [start], [pad] * count, [end], after]).astype(np.int64)[None]
    media = {name: image[name] for name in ("pixel_values", "image_grid_thw")}
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), **media)
    return ids.shape[1]


def peer_environment() -> Path:
    folder = ROOT / ".venv-transformers"
    python = folder / "bin" / "python"
    if (
        not python.exists()
        or subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode
    ):
        print(f"installing {' '.join(PEER)} into {folder.name} ...", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEER], check=True)
    return python


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
    files = list(folder.glob("*.safetensors"))
    for path in files:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    np.ones(2 * sum(path.stat().st_size for path in files) // 8)


def table(ours: dict, peer: dict, name: str = "transformers") -> str:
    rows = [("load", "s", 1), ("prefill", "s", 1), ("decode", "ms/token", 1000)]
    rows += [("load memory", "GB, peak", 1), ("memory", "GB, peak", 1)]
    if ours["vision"]:
        rows[1:1] = [("vision", "s", 1)]
        rows[3:3] = [("vision + prefill", "s", 1)]
    for engine in (ours, peer):
        engine["vision + prefill"] = engine["vision"] + engine["prefill"]
    lines = [f"| | ours | {name} | theirs / ours |", "|---|---|---|---|"]
    for part, unit, scale in rows:
        lines.append(
            f"| {part}, {unit} | {ours[part] * scale:.2f} | {peer[part] * scale:.2f} | {peer[part] / ours[part]:.2f} |"
        )
    return "\n".join(lines)


def versions(engine: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in engine["versions"].items())


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    typer.run(main)
