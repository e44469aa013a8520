"""Time a token by the length of a prompt, the rows of a batch and the patches of a picture, beside what the machine can do.

    python benchmarks/throughput.py measure FILE [--prompts 256 --prompts 1024] [--rows 1 --rows 4] [--patches 1024]
    python benchmarks/throughput.py report FILE [--plot docs/throughput.png]

`measure` adds what it finds to FILE, which is JSON, so that it may be run in pieces: a length, rows or patches at a time, another
--dtype, or other threads by OMP_NUM_THREADS. A short pass goes before and does not count. Two limits are measured in each piece:
the fastest large product of the libraries in use, and the rate at which all threads read memory, at which all weights, and keys
and values, are read once a pass. --kind leaves the others out. A picture is the square of merged patches that is nearest.
`report` prints the table, and, where FILE has a figure on one thread and on several, what more cores would give by Amdahl's law,
which is a calculation; --plot needs matplotlib.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once
from limits import amdahl, language_work, product_rate, read_rate, vision_work
from measure import generated, timed
from options import DType
from random_checkpoint import config_3b
from turns import spread
from typer import Argument, Option

from paddlemix_qwenvl.files import whole_file, write_json
from paddlemix_qwenvl.threads import thread_count

STEPS = 16  # of decoding
SHORTEST = 256  # tokens of each row's prompt
CORES = (8, 32, 64)
UNITS = {"prefill": "tokens of the prompt", "decode": "rows", "vision": "patches"}
PIECE = ("cpu", "dtype", "layers", "threads", "kind", "size")  # of which FILE keeps the last
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
File = Annotated[Path, Argument(help="of JSON")]


@app.command()
def measure(
    file: File,
    dtype: Annotated[DType, Option("--dtype")] = DType.bfloat16,
    layers: options.Layers = 12,
    vision_blocks: options.VisionBlocks = 8,
    prompts: Annotated[list[int], Option("--prompts", help="tokens, one row")] = (256, 1024, 4096, 8192, 16384, 32768),
    rows: Annotated[list[int], Option("--rows", help="that decode together")] = (1, 2, 4, 8, 16, 32),
    patches: Annotated[list[int], Option("--patches")] = (1, 64, 256, 1024, 4096, 16384),
    kinds: Annotated[list[str], Option("--kind", help="prefill, decode, vision")] = (*UNITS,),
    repeats: options.Repeats = 3,
    checkpoint: options.Checkpoint = None,
) -> None:
    import paddlemix_qwenvl  # noqa: F401, I001, prepares the process for Paddle
    import paddle
    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

    config = config_3b(layers, vision_blocks)
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint or Path(scratch) / "checkpoint"
        make_once(folder, config)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(folder), **dtype.given())
    rates = {"products": product_rate(), "reading": read_rate()}
    about = {"cpu": cpu_name(), "dtype": dtype.value, "layers": layers, "threads": thread_count(), **rates}
    ways = {"prefill": (prompts, prefill), "decode": (rows, decode), "vision": (patches, vision)}
    for kind in kinds:
        sizes, way = ways[kind]
        for size in sizes:
            seconds, done, work = way(model, paddle, config, dtype, size, repeats)
            limits = {"operations": work[0] / rates["products"], "bytes": work[1] / rates["reading"]}
            add(file, {**about, "kind": kind, "size": done, "seconds": seconds, **limits})
            print(f"{kind}, {done} {UNITS[kind]}: {spread(seconds, 4)} s", flush=True)


def prefill(model, paddle, config: dict, dtype: DType, length: int, repeats: int) -> tuple:
    """Seconds of each repeat, tokens in it, and operations and bytes of it."""
    found = generate(model, paddle, length, 1, 1, repeats)
    return [run["prefill"] for run in found], length, language_work(config, dtype, 0, length, 1)


def decode(model, paddle, config: dict, dtype: DType, rows: int, repeats: int) -> tuple:
    """As `prefill`, of a step."""
    found = generate(model, paddle, SHORTEST, rows, STEPS + 1, repeats)
    work = language_work(config, dtype, SHORTEST + STEPS // 2, 1, rows)
    return [run["decode"] / STEPS for run in found], rows, work


def generate(model, paddle, length: int, rows: int, count: int, repeats: int) -> list[dict]:
    ids = np.random.default_rng(0).integers(1000, 100000, (rows, length))
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    generated(model, input_ids=paddle.to_tensor(ids[:, :32]), **settings)
    return [generated(model, input_ids=paddle.to_tensor(ids), **settings)[0] for _ in range(repeats)]


def vision(model, paddle, config: dict, dtype: DType, patches: int, repeats: int) -> tuple:
    """As `prefill`, of a square picture of about as many patches."""
    side = 2 * max(1, round(patches**0.5 / 2))
    grid = paddle.to_tensor(np.array([[1, side, side]]))
    pixels = paddle.randn([side * side, 3 * 2 * 14 * 14])
    with paddle.no_grad():
        model.visual(pixels[:4], paddle.to_tensor(np.array([[1, 2, 2]])))
        seconds = [timed(lambda: model.visual(pixels, grid))[0] for _ in range(repeats)]
    return seconds, side * side, vision_work(config, dtype, side * side)


def add(file: Path, found: dict) -> None:
    """Put a figure in the file, in place of one of the same piece."""
    kept = [each for each in read(file) if any(each[name] != found[name] for name in PIECE)]
    write_json(file, [*kept, found])


def read(file: Path) -> list[dict]:
    return json.loads(file.read_text()) if file.is_file() else []


@app.command()
def report(
    file: File,
    plot: Annotated[Path | None, Option("--plot", help="a picture that is written")] = None,
) -> None:
    """The table, the plot and the calculation."""
    found = sorted(read(file), key=lambda each: [each[name] for name in PIECE])
    print(
        "| | dtype | threads | size | ms a token or patch | by operations | by bytes read | share of the larger limit |"
    )
    print("|" + "---|" * 8)
    for each in found:
        whole, limits = statistics.median(each["seconds"]), [each["operations"], each["bytes"]]
        cells = [f"{1000 * value / each['size']:.3g}" for value in (whole, *limits)]
        print(
            f"| {each['kind']} | {each['dtype']} | {each['threads']} | {each['size']} {UNITS[each['kind']]} | "
            f"{' | '.join(cells)} | {max(limits) / whole:.0%} |"
        )
    for cpu, layers in sorted({(each["cpu"], each["layers"]) for each in found}):
        print(f"\n{cpu}, {layers} layers")
    print_calculation(found)
    if plot:
        draw(found, plot)


def print_calculation(found: list[dict]) -> None:
    """What more cores would give, of each figure that was taken on one thread and on several."""
    alone = {key(each): each for each in found if each["threads"] == 1}
    pairs = [(alone[key(each)], each) for each in found if each["threads"] > 1 and key(each) in alone]
    if not pairs:
        return
    print(
        "\nA calculation, not a measurement: ms a token or patch on more cores by Amdahl's law, as if memory grew with them.\n"
    )
    print(
        "| | dtype | size | 1 thread | measured on several | " + " | ".join(f"{cores} cores" for cores in CORES) + " |"
    )
    print("|" + "---|" * (5 + len(CORES)))
    for one, several in pairs:
        times = [statistics.median(each["seconds"]) * 1000 / each["size"] for each in (one, several)]
        more = [amdahl(*times, several["threads"], cores) for cores in CORES]
        cells = [f"{times[0]:.3g}", f"{times[1]:.3g} on {several['threads']}", *(f"{value:.3g}" for value in more)]
        print(f"| {one['kind']} | {one['dtype']} | {one['size']} {UNITS[one['kind']]} | {' | '.join(cells)} |")


def key(each: dict) -> tuple:
    """A figure's piece, whatever its threads."""
    return tuple(each[name] for name in PIECE if name != "threads")


def draw(found: list[dict], path: Path) -> None:
    """A panel for each kind: figures as points on a line, their limits as dashes and dots."""
    from matplotlib.figure import Figure

    figure = Figure((12, 4), layout="constrained")
    for panel, (kind, unit) in zip(figure.subplots(1, len(UNITS)), UNITS.items(), strict=True):
        panel.set(title=kind, xlabel=unit, ylabel="ms a patch" if kind == "vision" else "ms a token")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        own = [each for each in found if each["kind"] == kind]
        for dtype, threads in sorted({(each["dtype"], each["threads"]) for each in own}):
            line = [each for each in own if (each["dtype"], each["threads"]) == (dtype, threads)]
            sizes, scales = [each["size"] for each in line], [1000 / each["size"] for each in line]
            times = [statistics.median(each["seconds"]) for each in line]
            (drawn,) = panel.plot(sizes, np.multiply(times, scales), "o-", label=f"{dtype}, {threads} threads")
            for name, dashes in (("operations", "--"), ("bytes", ":")):
                panel.plot(sizes, np.multiply([each[name] for each in line], scales), dashes, color=drawn.get_color())
        if own:
            panel.legend(title="-- by operations, ... by bytes read", fontsize="small", title_fontsize="small")
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


if __name__ == "__main__":
    app()
