"""What a pass of the model takes at the least: operations and bytes, and the rates at which this machine does them."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from measure import timed
from options import DType
from random_checkpoint import language_shapes, vision_shapes

from paddlemix_qwenvl.threads import thread_count

WINDOW = 64  # patches of a window of the vision tower, but for its blocks of full attention


def language_work(config: dict, dtype: DType, before: int, new: int, rows: int) -> tuple[float, float]:
    """Operations (a multiplication and an addition are two) and bytes read of a pass over `new` tokens of each of `rows`, after
    `before` ones: all layers, causal attention, the head for each row's last token."""
    shapes = language_shapes(config)
    layers = sum(math.prod(shape) for name, shape in shapes.items() if ".layers." in name and len(shape) == 2)
    head = math.prod(shapes["model.embed_tokens.weight"])
    pairs = new * before + new * (new + 1) / 2
    attention = 4 * config["num_hidden_layers"] * config["hidden_size"] * pairs
    kv = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    cache = 2 * config["num_hidden_layers"] * kv * (before + new) * rows * max(2, dtype.width)  # is not quantised
    return rows * (2 * layers * new + 2 * head + attention), (layers + head) * dtype.width + cache


def vision_work(config: dict, dtype: DType, patches: int) -> tuple[float, float]:
    """The same of the vision tower; the merger has a row for each of its squares."""
    vision = config["vision_config"]
    found = {name: math.prod(shape) for name, shape in vision_shapes(vision).items() if len(shape) > 1}
    merger = sum(size for name, size in found.items() if ".merger." in name)
    weights, full = sum(found.values()), sum(block < vision["depth"] for block in vision["fullatt_block_indexes"])
    seen = full * patches + (vision["depth"] - full) * min(WINDOW, patches)
    products = (weights - merger) * patches + merger * patches / vision["spatial_merge_size"] ** 2
    return 2 * products + 4 * vision["hidden_size"] * patches * seen, weights * dtype.width


def product_rate() -> float:
    """Best rate of a large product, in float32 by Paddle and with bfloat16 weights by the operation in use."""
    import paddle

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


def amdahl(one: float, several: float, threads: int, cores: int) -> float:
    """Seconds on `cores` of what takes `one` on one thread and `several` on `threads`, of which a part does not get faster
    (G. Amdahl, "Validity of the single processor approach", 1967)."""
    shared = min(one, (one - several) / (1 - 1 / threads))
    return one - shared * (1 - 1 / cores)
