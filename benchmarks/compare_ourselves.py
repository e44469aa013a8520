"""This package against itself in one go, the two sides by turns: import orders, or two builds of the compiled operations, or two
versions of the package.

    python benchmarks/compare_ourselves.py [--dtype bfloat16] [--rounds 5]
    python benchmarks/compare_ourselves.py --path external_ops/build/lib... --path ANOTHER/FOLDER
    python benchmarks/compare_ourselves.py --path OLD:OLD/external_ops/build/lib... --path NEW:NEW/external_ops/build/lib...

Without paths the sides are `import paddle` first and `import paddlemix_qwenvl` first, without OMP_NUM_THREADS. Each round has a
process a side; figures are medians of the rounds, and the ratio's least and largest are those of one round.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import options
import typer
from compare import HERE, cpu_name, make_once, warm_up, write_inputs
from options import DType
from random_checkpoint import config_3b
from turns import in_rounds, ratios, spread

from paddlemix_qwenvl.environment import cpu_count

PROGRAM = "import {first}, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def main(
    dtype: Annotated[DType, typer.Option("--dtype")] = DType.bfloat16,
    rounds: Annotated[int, typer.Option("--rounds", min=3)] = 5,
    new_tokens: options.NewTokens = 24,
    paths: Annotated[
        list[str] | None, typer.Option("--path", help="two; what goes first on PYTHONPATH, whole paths")
    ] = None,
    checkpoint: options.Checkpoint = None,
) -> None:
    if paths and len(set(paths)) != 2:
        raise typer.BadParameter("give two different ones", param_hint="--path")
    sides = [(path, "paddle", path) for path in paths or ()]
    sides = sides or [(f"import {first} first", first, "") for first in ("paddle", "paddlemix_qwenvl")]
    config = config_3b(12, 8)
    with tempfile.TemporaryDirectory() as scratch:
        folder, inputs = checkpoint or Path(scratch) / "checkpoint", Path(scratch) / "inputs.npz"
        make_once(folder, config)
        write_inputs(inputs, config, 784, 76)
        arguments = [folder, inputs, dtype.value, cpu_count(), new_tokens, 1]
        runs = {label: partial(run, first, path, list(map(str, arguments))) for label, first, path in sides}
        found = in_rounds(runs, rounds)
    print(f"\n{cpu_name()}, {cpu_count()} CPUs, {dtype.value}, medians of {rounds} rounds, the sides by turns\n")
    one, other = found
    print(f"| | {one} | {other} | the first over the second, least to largest |\n|---|---|---|---|")
    for part in ("load", "vision", "prefill", "decode", "memory"):
        ours, theirs = ([result[part] for result in results] for results in found.values())
        figures = f"{statistics.median(ours):.4g} | {statistics.median(theirs):.4g}"
        print(f"| {part} | {figures} | {spread(ratios(ours, theirs), 3)} |")


def run(first: str, path: str, arguments: list[str]) -> dict:
    warm_up(Path(arguments[0]))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH"), str(HERE)]))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(first=first), str(HERE / "run_ours.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\nrun_ours.py failed with exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    typer.run(main)
