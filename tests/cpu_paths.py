"""The ways that the CPU kernels may take, how each is forced, and the suite's last lines about them.

Every product says by `paddlemix_qwenvl_ops.product` how it rounds; `product_error` is what that may come to.
"""

import numpy as np

from paddlemix_qwenvl import environment

# Path -> the environment that forces it, and the CPU flags that it needs; each path needs those above it too.
PATHS = {
    "generic": ({"QWENVL_ISA": "generic"}, ()),
    "avx2": ({"QWENVL_ISA": "avx2"}, ("avx2", "fma", "f16c")),
    "avx512": (
        {"QWENVL_ISA": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
        ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    ),
    "avx512_vnni": ({"QWENVL_ISA": "avx512_vnni", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, ("avx512_vnni",)),
    "avx512_bf16": (
        {"QWENVL_ISA": "avx512_bf16", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
        ("avx512_bf16", "avx512vbmi"),
    ),
    "amx": ({}, ("amx_tile", "amx_bf16")),
}
FORCED_BY = ("QWENVL_ISA", "ONEDNN_MAX_CPU_ISA")

# Product -> the relative error of rounding one number of x, and of a weight that is no integer (external_ops/README.md).
# "integers" round beside the largest number of a block, the others beside the number itself.
ROUNDING = {"float32": (2**-24, 0.0), "bfloat16": (2**-8, 0.0), "integers": (0.5 / 4095, 0.5 / 4095)}
ROUNDING_BESIDE_INT8 = {**ROUNDING, "integers": (0.5 / 32767, 0.0)}
ROUNDING_BESIDE_INT4 = {**ROUNDING_BESIDE_INT8, "bfloat16": (2**-8, 2**-8)}


def rounding(product: str, dtype: str) -> tuple[float, float]:
    """See ROUNDING."""
    return {"int8": ROUNDING_BESIDE_INT8, "int4": ROUNDING_BESIDE_INT4}.get(dtype, ROUNDING)[product]


def paths_of_this_cpu() -> list[str]:
    """From the oldest to the newest."""
    _, flags = environment.cpu()
    found = []
    for path, (_, needed) in PATHS.items():
        if not flags.issuperset(needed):
            break
        found.append(path)
    return found


def product_error(product: str, dtype: str, x, weight) -> np.ndarray:
    """The largest error of x [m, k] times the transpose of weight [n, k], float64, `weight` as its `dtype` holds it: [m, n].

    To first order: each number's rounding times what it is multiplied by, and float32's of a sum of k numbers.
    """
    of_x, of_weight = rounding(product, dtype)
    x, weight = np.abs(x), np.abs(weight)
    sums = x @ weight.T
    error = x.shape[1] * 2**-24 * sums
    if product != "integers":
        return error + (of_x + of_weight) * sums
    return error + 1.02 * (
        of_x * x.max(1, initial=0)[:, None] * weight.sum(1) + of_weight * x.sum(1)[:, None] * weight.max(1)
    )


def split_error(model, dtype: str, rows: int, logits, patches: int = 0) -> float:
    """By how much (root mean square) logits of int8 weights split over ranks may differ from those of one process.

    The weights are the same, but activations are rounded elsewhere: blocks of integers begin where a rank's part of a row does, and
    sums in another order turn a number that is rounded to bfloat16 to its other neighbour. Each product then differs by up to the
    rounding of its own numbers, at random: `ROUNDING` over the square root of 3 times the result, and for integers four times
    that, as the largest number of a block is to the others' root mean square, of x and of the weights. Of the products that follow
    each other through the residual stream the errors add up in quadrature, and both sides are rounded. Layers that keep the model's
    dtype multiply in their own way, and so does a vision tower with its rows, `patches`: the coarsest counts.
    """
    from paddlemix_qwenvl.layers.linear import Linear

    products = sum(isinstance(layer, Linear) for layer in model.sublayers())
    ways = [(name, count) for name in (dtype, model.config.dtype) for count in (rows, patches or rows)]
    each = max(_rounding(running_product(name, count), name) for name, count in ways)
    float32 = 2**-20  # of norms, attention and sums
    return (each + float32) * (2 * products) ** 0.5 * float(np.sqrt(np.mean(np.square(logits))))


def _rounding(product: str, dtype: str) -> float:
    return sum(rounding(product, dtype)) * (4 if product == "integers" else 1) / 3**0.5


def assert_split_alike(found, wanted, error: float) -> None:
    """`found` differs from `wanted` by `error` (root mean square) at most: one wrong row, or one wrong scale, would be more."""
    difference = float(np.sqrt(np.mean((np.asarray(found, np.float64) - wanted) ** 2)))
    assert difference <= error, (difference, error)


def running_product(dtype: str, rows: int) -> str:
    """How this process multiplies: see `paddlemix_qwenvl_ops.product`; plain Paddle does in float32."""
    from paddlemix_qwenvl.ops import status

    if not status()["linear"].startswith("compiled"):
        return "float32"
    import paddlemix_qwenvl_ops

    return paddlemix_qwenvl_ops.product(dtype, rows)


def pytest_terminal_summary(terminalreporter):
    """Which paths ran, by the tests that passed, and which this CPU lacks."""
    from paddlemix_qwenvl.ops import status

    passed = [report.nodeid for report in terminalreporter.stats.get("passed", ())]
    ran = [path for path in PATHS if any(f"test_every_path_of_this_cpu[{path}]" in nodeid for nodeid in passed)]
    emulated = [path for path in PATHS if any(f"test_every_path_of_other_cpus[{path}]" in nodeid for nodeid in passed)]
    lacking = [path for path in PATHS if path not in paths_of_this_cpu()]
    terminalreporter.write_line(f"CPU kernels of this run: {status()['linear']}")
    terminalreporter.write_line(
        f"CPU paths: tested {', '.join(ran) or 'none but that'}; emulated {', '.join(emulated) or 'none'}; "
        f"this CPU lacks {', '.join(lacking) or 'none'}"
    )
