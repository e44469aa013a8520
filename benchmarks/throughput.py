"""Tokens a second of the language model for prompts of several lengths and batches of several sizes, and the share of what
the machine can do, measured in the same run.

    python benchmarks/throughput.py [--dtype int8] [--layers 12] [--prompts 256 --prompts 1024] [--batches 1 --batches 4]

Prefill is held against the fastest large product of Paddle's libraries, decode against the rate at which all threads read
memory: the weights once a step, and the keys and values of every row.
"""

import math
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once
from measure import generated, timed
from options import DType
from random_checkpoint import config_3b, language_shapes

from paddlemix_qwenvl.threads import thread_count

STEPS = 16  # of decoding


def main(
    dtype: Annotated[DType, typer.Option("--dtype")] = DType.bfloat16,
    layers: options.Layers = 12,
    prompts: Annotated[list[int], typer.Option("--prompts", help="tokens, at a batch of 1")] = (256, 1024, 4096, 8192),
    batches: Annotated[list[int], typer.Option("--batches", help="rows, at the shortest prompt")] = (1, 4, 8),
    repeats: options.Repeats = 3,
    checkpoint: options.Checkpoint = None,
) -> None:
    import paddlemix_qwenvl  # noqa: F401, I001, prepares the process for Paddle
    import paddle
    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

    config = config_3b(layers, vision_blocks=1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint or Path(scratch) / "checkpoint"
        make_once(folder, config)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(folder), **dtype.given())
    rate, bandwidth = product_rate(paddle), read_rate()
    print(f"\n{cpu_name()}, {thread_count()} threads, Paddle {paddle.__version__}, {dtype.value}, {layers} layers")
    print(f"products {rate / 1e9:.0f} GFLOP/s, memory read at {bandwidth / 1e9:.1f} GB/s; medians of {repeats}\n")
    print("| prompt | batch | prefill, tokens/s | of the product rate | decode, tokens/s | of the read rate |")
    print("|---|---|---|---|---|---|")
    for length, batch in [(length, 1) for length in prompts] + [(min(prompts), b) for b in batches if b != 1]:
        prefill, step = measure(model, paddle, length, batch, repeats)
        work, read = operations(config, length, batch), bytes_read(config, dtype, length + STEPS // 2, batch)
        print(
            f"| {length} | {batch} | {length * batch / prefill:.0f} | {work / prefill / rate:.0%} | {batch / step:.1f} | "
            f"{read / step / bandwidth:.0%} |",
            flush=True,
        )


def measure(model, paddle, length: int, batch: int, repeats: int) -> tuple[float, float]:
    """Median seconds of the prefill and of one step of decoding."""
    ids = paddle.to_tensor(np.random.default_rng(0).integers(1000, 100000, (batch, length)))
    settings = {"max_new_tokens": STEPS + 1, "min_new_tokens": STEPS + 1, "do_sample": False}
    runs = [generated(model, input_ids=ids, **settings)[0] for _ in range(repeats + 1)]
    prefill, decode = (statistics.median(run[part] for run in runs[1:]) for part in ("prefill", "decode"))
    return prefill, decode / STEPS


def sizes(config: dict) -> tuple[int, int]:
    """Weights of the layers, and of the head."""
    shapes = language_shapes(config)
    layers = sum(math.prod(shape) for name, shape in shapes.items() if ".layers." in name and len(shape) == 2)
    return layers, math.prod(shapes["model.embed_tokens.weight"])


def operations(config: dict, length: int, batch: int) -> float:
    """Multiplications and additions of a prefill: layers for all tokens, causal attention, the head for the last token."""
    layers, head = sizes(config)
    attention = 2 * config["num_hidden_layers"] * config["hidden_size"] * length * length
    return batch * (2 * layers * length + attention + 2 * head)


def bytes_read(config: dict, dtype: DType, length: int, batch: int) -> float:
    """Bytes of one step of decoding."""
    layers, head = sizes(config)
    width = {DType.float32: 4, DType.bfloat16: 2, DType.int8: 1}[dtype]
    cache = max(2, width)  # keys and values are not quantised
    kv = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    return (layers + head) * width + 2 * config["num_hidden_layers"] * kv * length * batch * cache


def product_rate(paddle) -> float:
    """Best rate of a large product, in float32 by Paddle and with bfloat16 weights by the operation in use."""
    from paddlemix_qwenvl import ops

    x, weight = paddle.randn([1024, 2048]), paddle.randn([8192, 2048])
    narrow = weight.astype("bfloat16")
    with paddle.no_grad():
        ways = (lambda: paddle.matmul(x, weight, transpose_y=True), lambda: ops.linear(x, narrow))
        seconds = min(timed(way)[0] for way in ways for _ in range(5))
    return 2 * 1024 * 2048 * 8192 / seconds


def read_rate() -> float:
    """Bytes a second that all threads together read from memory, by products with a vector, which read several rows at once."""
    threads = thread_count()
    parts, vector = np.ones((threads, 1 << 15, 2048), np.float32), np.ones(2048, np.float32)
    with ThreadPoolExecutor(threads) as pool:
        seconds = min(timed(lambda: list(pool.map(lambda part: part @ vector, parts)))[0] for _ in range(5))
    return parts.nbytes / seconds


if __name__ == "__main__":
    typer.run(main)
