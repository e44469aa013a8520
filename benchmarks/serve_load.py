"""The server under load: more than it can do for minutes on end, and beside others.

    python benchmarks/serve_load.py overload [--model_path demo] [--minutes 10]
    python benchmarks/serve_load.py openvino-genai --peer_python PYTHON [--checkpoint FOLDER]
    python benchmarks/serve_load.py llama-server --peer_python PYTHON --server PROGRAM [--checkpoint FOLDER]

`overload` finds how many requests a second the server answers, then sends it twice as many, with text and pictures, while a tenth
of the clients leave early. It ends with an error if a request failed, if memory grew, or if a block is left in use.
The others ask this server and another one by turns, with so many clients at a time; OpenVINO GenAI, which has no server of its
own, behind serve_openvino.py; llama.cpp's server with text alone. PYTHON and PROGRAM are as for compare_engines.py.
"""

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import urlopen

import options
import typer
from compare import HERE, cpu_name, make_once
from compare_engines import IMAGE_SIDE, IMAGE_TOKENS, PeerPython
from load_client import Clients, Told, Workload, firsts, gaps, percentiles
from peers import openvino_model
from random_checkpoint import config_3b
from typer import Option
from words import write_tokenizer

from paddlemix_qwenvl.commands.options import grouped, with_defaults

PORT = 18090
IN_USE = ("qwenvl:num_requests_running", "qwenvl:num_requests_waiting", "qwenvl:kv_cache_usage_perc")
GROWTH = 1.02  # of memory, that is no growth
DEMO = Workload(text_tokens=64, tokens=48, side=224)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Minutes = Annotated[float, Option("--minutes")]
ClientsAtOnce = Annotated[int, Option("--clients", help="at a time")]


@app.command()
def overload(
    model_path: Annotated[str, Option("--model_path")] = "demo",
    minutes: Minutes = 10.0,
    clients: ClientsAtOnce = 16,
    probe_seconds: Annotated[float, Option("--probe_seconds", help="to find what the server can do")] = 30.0,
    max_queue: Annotated[int, Option("--max_queue", help="of the server")] = 64,
) -> None:
    """Twice what the server can do."""
    with ours(model_path, "--max_queue", str(max_queue)) as server:
        probe = Clients(PORT, DEMO)
        seconds = timed(probe.in_turn(clients, probe_seconds))
        rate = sum(told.kind in ("done", "left") for told in probe.told) / seconds
        print(
            f"{cpu_name()}, {model_path}: {clients} clients at a time, {rate:.1f} requests/s; now twice as many arrive"
        )
        memory: list[tuple[float, int]] = []
        started = time.monotonic()

        async def note() -> None:
            memory.append((time.monotonic() - started, resident(server.pid)))

        load = Clients(PORT, DEMO, first=len(probe.told))
        seconds = timed(load.arriving(2 * rate, minutes * 60, note))
        print_head()
        print_row("overload", load.told, seconds)
        by_minute = minutes_of(memory)
        print("\nmemory, MB, median of each minute: " + " ".join(f"{bytes / 1e6:.0f}" for bytes in by_minute))
        faults = [told.error or f"status {told.status}" for told in load.told if told.kind == "failed"]
        left = in_use()
        print(f"failed: {len(faults)} {faults[:3]}\nleft in use: {left}")
        later = by_minute[2:] or by_minute
        if faults or any(left.values()) or max(later) > later[0] * GROWTH:
            raise SystemExit(1)


@app.command()
@partial(with_defaults, new_tokens=32)
@grouped
def openvino_genai(
    peer_python: PeerPython, minutes: Minutes = 1.0, clients: ClientsAtOnce = 8, *, work: options.Work
) -> None:
    """A picture in every second request, int8 against int8."""
    load = Workload(256, work.new_tokens, side=IMAGE_SIDE, leaving=0.0)
    with checkpoint(work) as folder:
        model = openvino_model(folder, options.DType.int8, peer_python)
        command = [peer_python, HERE / "serve_openvino.py", model, PORT, work.threads]
        compare({"OpenVINO GenAI": command}, folder, load, work, clients, minutes * 60)


@app.command()
@partial(with_defaults, new_tokens=32)
@grouped
def llama_server(
    peer_python: PeerPython,
    server: Annotated[Path, Option("--server", help="llama.cpp's llama-server")],
    minutes: Minutes = 1.0,
    clients: ClientsAtOnce = 8,
    *,
    work: options.Work,
) -> None:
    """Text, as much as picture and text take together, int8 against Q8_0."""
    load = Workload(256 + IMAGE_TOKENS // 2, work.new_tokens, pictures=0.0, leaving=0.0)
    with checkpoint(work) as folder:
        subprocess.run([peer_python, HERE / "gguf_file.py", folder, "int8"], check=True)
        context = clients * (load.text_tokens + 2 * load.tokens + 64)
        command = [
            server.resolve(),
            "-m",
            folder / "text-int8.gguf",
            "-c",
            context,
            "-t",
            work.threads,
            "-tb",
            work.threads,
        ]
        command += [
            "--parallel",
            clients,
            "--host",
            "127.0.0.1",
            "--port",
            PORT,
            "--log-verbosity",
            1,
            "--cont-batching",
        ]
        compare({"llama-server": command}, folder, load, work, clients, minutes * 60)


@contextmanager
def checkpoint(work: options.Work) -> Iterator[Path]:
    """The folder of the random checkpoint, with a tokenizer."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = work.checkpoint or Path(scratch)
        make_once(folder, config_3b(work.layers, work.vision_blocks))
        write_tokenizer(folder)
        yield folder


@contextmanager
def ours(model_path: str | Path, *more: str):
    """This package's server."""
    command = [sys.executable, "-m", "paddlemix_qwenvl.cli", "serve", "--model_path", model_path, "--port", PORT, *more]
    with running(command) as server:
        yield server


@contextmanager
def running(command: list) -> Iterator[subprocess.Popen]:
    """A server at PORT that has loaded its model."""
    server = subprocess.Popen([*map(str, command)], stdout=sys.stderr)
    try:
        while not is_ready():
            if server.poll() is not None:
                raise SystemExit(f"{command[0]} ended with exit status {server.returncode}; its own words are above")
            time.sleep(0.1)
        yield server
    finally:
        server.terminate()
        server.wait()


def is_ready() -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5) as answer:
            return answer.status == 200
    except URLError:
        return False


def compare(peers: dict, folder: Path, load: Workload, work: options.Work, clients: int, seconds: float) -> None:
    """Ask each server by turns, `work.repeats` times, and print a table."""
    os.environ["OMP_NUM_THREADS"] = str(work.threads)
    sides = {"ours": lambda: ours(folder, "--dtype", "bfloat16", "--quantization", "int8")}
    sides |= {name: partial(running, command) for name, command in peers.items()}
    print(f"\n{cpu_name()}, {work.threads} threads, {clients} clients at a time, {load}")
    print_head()
    for number in range(work.repeats):
        for name in list(sides) if number % 2 == 0 else [*sides][::-1]:
            with sides[name]() as server:
                timed(Clients(PORT, load, first=1 << 20).in_turn(clients, seconds / 10))
                asking = Clients(PORT, load)
                taken = timed(asking.in_turn(clients, seconds))
                print_row(name, asking.told, taken, resident(server.pid))


def print_head() -> None:
    names = [
        "",
        "requests/s",
        "tokens/s",
        "first token, ms, p50 / p95",
        "a token, ms, p50 / p95",
        "how they ended",
        "memory, MB",
    ]
    print("\n| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|")


def print_row(name: str, told: list[Told], seconds: float, memory: int | None = None) -> None:
    """Of answers that came whole, and how the others ended."""
    done = [each for each in told if each.kind == "done"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.kind for each in told).most_common())
    tokens = sum(len(each.times) for each in told)
    cells = [
        name,
        f"{len(done) / seconds:.2f}",
        f"{tokens / seconds:.1f}",
        percentiles(firsts(told)),
        percentiles(gaps(told)),
    ]
    print("| " + " | ".join([*cells, kinds, f"{memory / 1e6:.0f}" if memory else ""]) + " |", flush=True)


def timed(asking) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    asyncio.run(asking)
    return time.perf_counter() - started


def resident(process: int) -> int:
    """Bytes of memory of a process and all that it started."""
    try:
        told = Path(f"/proc/{process}/status").read_text().splitlines()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except FileNotFoundError:  # it has ended
        return 0
    own = sum(int(line.split()[1]) * 1024 for line in told if line.startswith("VmRSS"))
    return own + sum(map(resident, map(int, children)))


def minutes_of(noted: list[tuple[float, int]]) -> list[float]:
    """The median of each minute's values."""
    minutes = itertools.groupby(noted, key=lambda each: each[0] // 60)
    return [statistics.median(value for _, value in each) for _, each in minutes]


def in_use() -> dict[str, float]:
    """What of the server's engine is not free, when it has come to rest."""
    for _ in range(50):
        with urlopen(f"http://127.0.0.1:{PORT}/metrics") as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line.startswith(IN_USE)]
        found = {name.partition("{")[0]: float(value) for name, value in lines}
        if not any(found.values()):
            break
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    app()
