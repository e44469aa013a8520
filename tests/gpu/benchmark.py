"""Every CUDA kernel beside PyTorch's own operations on one GPU: how near, how long, and what share of the copy bandwidth.

    python tests/gpu/benchmark.py [bfloat16 | float16]

Needs nvcc and PyTorch; no Paddle. Inputs are drawn anew each time, outputs are NaN beforehand, and a result that is further than
0.01 from PyTorch's ends the run with status 1. A kernel's bytes are those it cannot but read and write once; the copy is
`Tensor.copy_` on the device in the same run. Times are medians of replays of a CUDA graph, per call, which go through
inputs that together are larger than the L2 cache.
"""

import statistics
import sys

import torch
from benchmark_cases import CASES, DEVICE, Case
from benchmark_products import PRODUCTS
from machine import Gpu

LEAST_BYTES = 256 << 20  # of all copies of the inputs together
ROUNDS = 11
LEAST_CALLS = 10  # in a graph
NEAR = 1e-2


def median_time(run) -> float:
    """Seconds of one call, measured with events."""
    times = []
    for _ in range(ROUNDS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / 1e3)
    return statistics.median(times)


def seconds(run, sets: list) -> float:
    """Median time of one call, over sets of arguments in turn, all in one CUDA graph, so that no launch is waited for."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for arguments in sets:  # what is done once only
            run(*arguments)
    torch.cuda.synchronize()
    graph, calls = torch.cuda.CUDAGraph(), len(sets) * max(1, LEAST_CALLS // len(sets))
    with torch.cuda.graph(graph, stream=stream):
        for call in range(calls):
            run(*sets[call % len(sets)])
    graph.replay()
    return median_time(graph.replay) / calls


def copy_rate() -> float:
    """Bytes a second, read and written, of a copy on the device; not in a graph, where it was seen at two thirds of the rate."""
    size = 1 << 30
    a, b = (torch.empty(size, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    return 2 * size / median_time(lambda: b.copy_(a))


def distance(found, wanted) -> float:
    """The largest difference, relative to the size of the number where that is over 1; infinite where there is NaN."""
    found, wanted = found.double(), wanted.double()
    apart = ((found - wanted).abs() / wanted.abs().clamp(min=1)).max().item()
    return apart if apart == apart else float("inf")


def measure(case: Case) -> dict:
    x = case.inputs()
    out = case.outputs(x)
    moved = case.bytes(x, out)
    case.kernel(x, out)
    torch.cuda.synchronize()
    apart = max(distance(a, b) for a, b in zip(out, case.torch(x), strict=True))
    sets = [(x, out)]
    while len(sets) * moved < LEAST_BYTES:
        x = case.inputs()
        sets.append((x, case.outputs(x)))
    ours = seconds(case.kernel, sets)
    theirs = seconds(lambda x, _: case.torch(x), sets)
    return {"apart": apart, "bytes": moved, "ours": ours, "theirs": theirs}


def main() -> int:
    dtype = getattr(torch, sys.argv[1] if len(sys.argv) > 1 else "bfloat16")
    gpu, rate = Gpu(), copy_rate()
    print(
        f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {dtype}; a copy moves {rate / 1e12:.2f} TB/s\n"
    )
    print("| kernel | largest difference | time | share of the copy's bandwidth | PyTorch's time / ours |")
    print("|---|---|---|---|---|")
    wrong = []
    for kind in (*CASES, *PRODUCTS):
        found = measure(kind(gpu, dtype))
        share = found["bytes"] / found["ours"] / rate
        print(
            f"| {kind.__doc__} | {found['apart']:.1e} | {found['ours'] * 1e6:.1f} us | {share:.0%} "
            f"| {found['theirs'] / found['ours']:.1f} |",
            flush=True,
        )
        if found["apart"] > NEAR:
            wrong.append(kind.__name__)
    if wrong:
        print(f"further than {NEAR} from PyTorch: {', '.join(wrong)}")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
