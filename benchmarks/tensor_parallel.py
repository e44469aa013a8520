"""What tensor parallelism costs a rank, over gloo on this machine's CPU.

    python benchmarks/tensor_parallel.py memory    peak memory a rank while loading, for 1, 2 and 4 ranks
    python benchmarks/tensor_parallel.py vision    seconds of the vision tower, split by heads or images dealt out, on 2 ranks

Both write a random checkpoint of 490 MB first: the released models' vision width with 4 blocks, a smaller language model.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import typer
from measure import timed
from random_checkpoint import config_3b, write_checkpoint

MODES = ("tensor", "data")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def config() -> dict:
    given = config_3b(layers=6, vision_blocks=4)
    given |= {"vocab_size": 32001, "hidden_size": 1024, "intermediate_size": 2816, "tie_word_embeddings": False}
    given["rope_scaling"] = {"type": "mrope", "mrope_section": [8, 12, 12]}
    given["vision_config"] |= {"out_hidden_size": 1024, "fullatt_block_indexes": [3]}
    return given


def launch(folder: Path, degree: int, *arguments: str) -> list[dict]:
    """Run `rank_memory` or `rank_vision` on `degree` ranks; returns what each found."""
    command = [
        sys.executable,
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        degree,
        "--log_dir",
        folder / "log",
    ]
    command = command if degree > 1 else [sys.executable]
    command += [__file__, *arguments[:1], folder, *arguments[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KMP_BLOCKTIME": "0"}
    process = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    if process.returncode:
        raise typer.Exit(f"{arguments} on {degree} ranks failed:\n{process.stdout[-3000:]}{process.stderr[-3000:]}")
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(degree)]


@app.command()
def memory() -> None:
    """Peak memory a rank over what it had before loading, against its share of the parameters."""
    with tempfile.TemporaryDirectory() as folder:
        total = 2 * write_checkpoint(Path(folder), config())
        print(f"{total / 1e6:.0f} MB of bfloat16 parameters; MB a rank, the largest of all ranks\n")
        print(f"{'ranks':>5} {'total / ranks':>14} {'parameters held':>16} {'peak':>7} {'peak / (total / ranks)':>23}")
        for degree in (1, 2, 4):
            ranks = launch(Path(folder), degree, "rank-memory")
            held, peak = (max(found[name] for found in ranks) for name in ("held", "peak"))
            share = total / degree
            print(f"{degree:>5} {share / 1e6:>14.1f} {held / 1e6:>16.1f} {peak / 1e6:>7.1f} {peak / share:>23.3f}")


@app.command()
def vision(image_side: int = 448, repeats: int = 5) -> None:
    """Seconds of the vision tower in float32: both ways in turn, the slower rank's best of `repeats`."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), config())
        ranks = launch(Path(folder), 2, "rank-vision", str(image_side), str(repeats))
    print(f"images of {image_side} x {image_side} pixels, 2 ranks of one thread each, {os.cpu_count()} cores\n")
    print(f"{'vision_parallel':>15} {'1 image':>9} {'4 images':>9}")
    for mode in MODES:
        one, four = (max(found[f"{mode} {images}"] for found in ranks) for images in (1, 4))
        print(f"{mode:>15} {one:>7.2f} s {four:>7.2f} s")


@app.command(hidden=True)
def rank_memory(folder: Path) -> None:
    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
    from paddlemix_qwenvl.parallel import init_tensor_parallel

    parallel = init_tensor_parallel()
    Qwen2_5_VLForConditionalGeneration.without_memory(Qwen2_5_VLForConditionalGeneration.config_class(), "float32")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    peak = status("VmHWM") - before
    held = sum(parameter.numel().item() * parameter.element_size() for parameter in model.parameters())
    report(folder, parallel.rank, held=held, peak=peak)


@app.command(hidden=True)
def rank_vision(folder: Path, image_side: int, repeats: int) -> None:
    import numpy as np
    import paddle

    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
    from paddlemix_qwenvl.parallel import init_tensor_parallel

    parallel = init_tensor_parallel()
    load = partial(Qwen2_5_VLForConditionalGeneration.from_pretrained, folder, dtype="float32")
    towers = {mode: load(vision_parallel=mode).visual for mode in MODES}
    side, found = image_side // 14, {}
    for images in (1, 4):
        grid = np.array([[1, side, side]] * images)
        pixels = paddle.randn([images * side * side, 1176])
        seconds = {mode: [] for mode in MODES}
        with paddle.no_grad():
            for _ in range(repeats):
                for mode in MODES:
                    seconds[mode].append(timed(partial(towers[mode], pixels, grid))[0])
        found |= {f"{mode} {images}": min(values) for mode, values in seconds.items()}
    report(folder, parallel.rank, **found)


def status(field: str) -> int:
    """Bytes that the kernel counts for this process, mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def report(folder: Path, rank: int, **found) -> None:
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    app()
