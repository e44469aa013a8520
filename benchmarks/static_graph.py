"""Static graphs and the dynamic model on one random checkpoint, in one go: the table of docs/static_graph.md.

    python benchmarks/static_graph.py compare [--family qwen_vl] [--dtype bfloat16] [--layers 4] [--threads 2] [--repeats 3]

Each has processes of its own, in turn; the first of a process's repeats does not count, figures are medians of the rest.
"""

import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name
from compare_qwen_vl import config_7b, hub_shapes
from measure import loaded, report
from PIL import Image
from random_checkpoint import config_3b, write_checkpoint

ENGINES, FAMILIES = ("dynamic", "static"), ("qwen2_5_vl", "qwen_vl")
KEPT = {"kv_cache_gib": 0.25, "remember_images": False}
QUESTION, PICTURE = "What is in this picture?", "picture.png"
BYTE_VOCABULARY = 256 + 293  # Qwen-VL's special tokens after one for each byte
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    family: Annotated[str, typer.Option("--family", help=" or ".join(FAMILIES))] = FAMILIES[0],
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or int8")] = "float32",
    layers: options.Layers = 4,
    vision_blocks: options.VisionBlocks = 4,
    image_side: Annotated[int, typer.Option("--image_side", help="pixels")] = 448,
    new_tokens: options.NewTokens = 16,
    threads: options.Threads = options.THREADS,
    repeats: options.Repeats = 3,
    processes: Annotated[int, typer.Option("--processes", min=1, help="of each, in turn")] = 2,
    checkpoint: options.Checkpoint = None,
) -> None:
    """Print a table: load, vision, prefill, decode, memory."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint or Path(scratch)
        if not (folder / "config.json").is_file():
            {"qwen2_5_vl": write_qwen2_5_vl, "qwen_vl": write_qwen_vl}[family](folder, layers, vision_blocks)
        draw(folder / PICTURE, image_side)
        if not (folder / dtype).is_dir():
            run(threads, "export", folder, dtype)
        given = [folder, dtype, new_tokens, repeats]
        runs = {engine: [] for engine in ENGINES}
        for _ in range(processes):
            for engine in ENGINES:
                runs[engine].append(run(threads, engine, *given))
    tokens = [found["tokens"] for engine in ENGINES for found in runs[engine]]
    print(f"\n{family}, {dtype}, {layers} layers, {vision_blocks} vision blocks, one {image_side} x {image_side} image")
    print(
        f"{cpu_name()}, {threads} threads, {processes} processes each in turn, medians of {repeats}, {new_tokens} new tokens"
    )
    print(f"tokens {'agree' if all(one == tokens[0] for one in tokens) else 'DIFFER'}")
    print("\n| | dynamic | static | static / dynamic |\n|---|---|---|---|")
    for part, unit, scale in (
        ("load", "s", 1),
        ("vision", "s", 1),
        ("prefill", "s", 1),
        ("decode", "ms/token", 1000),
        ("memory", "GB, peak", 1),
    ):
        ours, static = (statistics.median(found[part] for found in runs[engine]) * scale for engine in ENGINES)
        print(f"| {part}, {unit} | {ours:.2f} | {static:.2f} | {static / ours:.2f} |")


def write_qwen2_5_vl(folder: Path, layers: int, vision_blocks: int) -> None:
    """A random checkpoint of the 3B's widths with the demo's tokenizer."""
    from paddlemix_qwenvl.hub import DEMO

    demo = json.loads((DEMO / "config.json").read_text())
    config = config_3b(layers, vision_blocks)
    config |= {name: value for name, value in demo.items() if name.endswith("_token_id")}
    write_checkpoint(folder, config)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.json"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    settings = json.loads((DEMO / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "max_pixels": 1280 * 28 * 28}))


def write_qwen_vl(folder: Path, layers: int, vision_blocks: int) -> None:
    """A random checkpoint of the 7B's widths with a tokenizer of single bytes."""
    from paddlemix_qwenvl import QWenVLTokenizer

    config = config_7b(layers, vision_blocks, BYTE_VOCABULARY)
    write_checkpoint(folder, config, shapes=hub_shapes(config))
    words = folder / "qwen.tiktoken"
    words.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(bytes([value])), value) for value in range(256)))
    QWenVLTokenizer(str(words)).save_pretrained(str(folder))
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml"}))


def draw(path: Path, side: int) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(path)


def run(threads: int, *arguments) -> dict:
    """The last line of a hidden command, as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLOG_minloglevel": "2"}
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(f"{arguments} failed with exit status {process.returncode}; its own words are above")
    return json.loads(process.stdout.splitlines()[-1])


@app.command(hidden=True)
def export(folder: Path, dtype: str) -> None:
    from paddlemix_qwenvl.static import export as exporter

    exporter.export(*exporter.load(str(folder), dtype), folder / dtype)
    print("{}")


@app.command(hidden=True)
def dynamic(folder: Path, dtype: str, new_tokens: int, repeats: int) -> None:
    from paddlemix_qwenvl.engine.session import Assistant

    weights = {"quantization": "int8"} if dtype == "int8" else {"dtype": dtype}
    tell(lambda: Assistant.load(str(folder), **KEPT, **weights), folder, new_tokens, repeats)


@app.command(hidden=True)
def static(folder: Path, dtype: str, new_tokens: int, repeats: int) -> None:
    from paddlemix_qwenvl.static.loading import load_export

    tell(lambda: load_export(folder / dtype, **KEPT), folder, new_tokens, repeats)


def tell(load, folder: Path, new_tokens: int, repeats: int) -> None:
    """Ask about the picture, `repeats` times that count, and report."""
    figures, assistant = loaded(load)
    settings = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
    answers = [assistant.ask(QUESTION, [str(folder / PICTURE)], **settings) for _ in range(repeats + 1)]
    runs = [{part: answer.seconds[part] for part in ("vision", "prefill", "decode")} for answer in answers[1:]]
    for run in runs:
        run["decode"] /= new_tokens - 1
    report({}, figures, runs, answers[-1].token_ids)


if __name__ == "__main__":
    app()
