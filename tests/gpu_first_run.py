"""The parts of first_run.sh that are Python; each prints what it finds.

python gpu_first_run.py operations                   every operation of the GPU beside its definition
python gpu_first_run.py parity                       a small seeded model on the GPU beside the CPU
python gpu_first_run.py benchmark 3B [--quantization int8] [--no_cuda_graph]         random weights, 997 tokens in, 128 out
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import paddle

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, ops
from paddlemix_qwenvl.device import peak_memory
from paddlemix_qwenvl.engine.device_runner import runner_of
from paddlemix_qwenvl.engine.engine import Engine
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.layers.rounding import to_fp8, to_int4
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.ops import definitions
from paddlemix_qwenvl.ops.fp8 import Fp8Weight
from paddlemix_qwenvl.ops.int4 import Int4Weight

NEAR = {"float32": 3e-3, "bfloat16": 0.03, "float16": 0.004}
"""Relative to the largest number; of float32 on tensor cores."""
TOKENS, NEW_TOKENS, REPEATS = 997, 128, 5


def numbers(*shape: int, dtype: str = "float32", seed: int = 0) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)).astype(dtype)


def cases(dtype: str) -> dict[str, tuple]:
    """Arguments of each operation that has a version for GPUs, as functions: some are written to."""

    def integers(*values):
        return paddle.to_tensor(values, dtype="int32")

    x, wide, weight = numbers(7, 512, dtype=dtype), numbers(7, 1024, dtype=dtype), numbers(256, 512, dtype=dtype)
    q, k = numbers(7, 8, 64, dtype=dtype), numbers(7, 2, 64, dtype=dtype, seed=1)
    cos, sin = numbers(7, 32).cos(), numbers(7, 32).sin()
    caches = numbers(4, 2, 16, 64, dtype=dtype, seed=2), numbers(4, 2, 16, 64, dtype=dtype, seed=3)
    rows = integers(0, 3, 7), paddle.to_tensor([[0, 2], [3, 1]], dtype="int32"), integers(20, 31)
    qkv = numbers(7, 12 * 64, dtype=dtype, seed=4)
    return {
        "rms_norm": (x, weight[0], 1e-6, x),
        "layer_norm": (x, weight[0], weight[1], 1e-6, x),
        "swiglu": (wide,),
        "linear": (x, weight, weight[:, 0]),
        "linear_int8": (x, definitions.quantize_int8(weight)),
        "linear_int4": (x, Int4Weight(*to_int4(weight, 64).values())),
        "linear_fp8": (x, Fp8Weight(*to_fp8(weight, None).values())),
        "encode_rotary_qk": (q, k, cos, sin),
        "qkv_transpose_split": (qkv, cos, sin, 8, 2),
        "qkv_attention": (qkv, cos, sin, integers(0, 3, 7), 4, 4, False),
        "qkv_write_cache": (qkv, cos, sin, *caches, integers(1, 2, 3, 20, 21, 40, 63), 8),
        "qkv_decode_attention": (qkv[:2], cos[:2], sin[:2], *caches, integers(35, 30), *rows[1:], 8),
        "varlen_attention": (q, k, k, integers(0, 3, 7), integers(0, 3, 7), True),
        "cached_attention": (q, *caches, *rows),
        "decode_attention": (q[:2], *caches, *rows[1:]),
        "sample": (numbers(3, 1000), paddle.to_tensor([[0.0, 0, 1, 0, 1, 0, 0]] * 3), paddle.zeros([3])),
        "get_padding_offset": (paddle.to_tensor([[0, 1, 1], [1, 1, 1]]),),
    }


def distance(found, wanted) -> float:
    """The largest difference relative to the largest number; infinite where there is NaN."""
    pairs = zip(_all(found), _all(wanted), strict=True)
    apart = max(float((a - b).abs().max() / b.abs().max().clip(min=1e-6)) for a, b in pairs)
    return apart if apart == apart else float("inf")


def _all(given) -> list[paddle.Tensor]:
    return [x.astype("float32") for x in (given if isinstance(given, tuple | list) else (given,))]


def operations() -> bool:
    status, good = ops.status(), True
    print("| operation | dtype | difference | way |\n|---|---|---|---|")
    for dtype in NEAR:
        for name, arguments in cases(dtype).items():
            try:
                wanted = getattr(definitions, name)(*(_copy(x) for x in arguments))
                apart = distance(getattr(ops, name)(*(_copy(x) for x in arguments)), wanted)
                good &= apart < NEAR[dtype]
                print(f"| {name} | {dtype} | {apart:.1e} | {status[name]} |", flush=True)
            except Exception as error:  # the next one is to be tried
                good = False
                print(f"| {name} | {dtype} | {type(error).__name__}: {str(error).strip()[-300:]} | {status[name]} |")
    return good


def _copy(x):
    return x.clone() if isinstance(x, paddle.Tensor) else x


def answered(model, prompts: list[np.ndarray], new_tokens: int, no_cuda_graph: bool) -> tuple[list, list[float]]:
    """Greedy tokens of each prompt, and seconds of each step of the engine."""
    runner = runner_of(model, no_cuda_graph)
    engine = Engine(runner, sum(-(-(prompt.size + new_tokens) // 64) + 1 for prompt in prompts))
    settings = GenerationSettings(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    for prompt in prompts:
        positions = np.broadcast_to(np.arange(prompt.size), (model.position_rows, prompt.size))
        engine.add(Request(Prompt(prompt, positions, prompt.size, []), settings))
    found, seconds = {}, []
    while engine.busy:
        started = perf_counter()
        for event in engine.step():
            if hasattr(event, "error"):
                raise event.error
            if hasattr(event, "reason"):
                found[event.request_id] = event.token_ids
        seconds.append(perf_counter() - started)
    return [found[number] for number in sorted(found)], seconds


def parity() -> bool:
    """Logits of every dtype, and greedy tokens with a graph and without, which are the same."""
    import hub_model

    device, good = paddle.device.get_device(), True
    given = hub_model.config(hidden_size=64, rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]}, vocab_size=288)
    prompts = [np.random.default_rng(seed).integers(1, 250, 5 + 30 * seed) for seed in range(3)]
    with tempfile.TemporaryDirectory() as folder, paddle.no_grad():
        given["vision_config"]["out_hidden_size"] = 64
        hub_model.write(Path(folder), given, hub_model.tensors(given))
        load = Qwen2_5_VLForConditionalGeneration.from_pretrained
        paddle.set_device("cpu")
        wanted = load(folder, dtype="float32")(paddle.to_tensor(prompts[1][None])).logits.numpy()
        paddle.set_device(device)
        for dtype in NEAR:
            try:
                model = load(folder, dtype=dtype)
                found = model(paddle.to_tensor(prompts[1][None])).logits.astype("float32").numpy()
                apart = float(np.abs(found - wanted).max() / np.abs(wanted).max())
                ways = [answered(model, prompts, 40, no_cuda_graph)[0] for no_cuda_graph in (False, True)]
                good &= apart < 5 * NEAR[dtype] and ways[0] == ways[1]
                same = "the same" if ways[0] == ways[1] else f"not the same: {ways}"
                print(f"{dtype}: logits differ by {apart:.1e}; tokens with and without a graph are {same}")
            except Exception as error:
                good = False
                print(f"{dtype}: {type(error).__name__}: {str(error).strip()[-500:]}")
    return good


def benchmark(size: str, quantization: str | None, no_cuda_graph: bool, dtype: str = "bfloat16") -> bool:
    paddle.set_default_dtype(dtype)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.of_size(size))
    paddle.set_default_dtype("float32")
    model.eval()
    if quantization:
        model.quantize(quantization)
    prompt = np.random.default_rng(0).integers(1, 1000, TOKENS)
    first, step, total = [], [], []
    for _ in range(REPEATS + 1):
        _, seconds = answered(model, [prompt], NEW_TOKENS, no_cuda_graph)
        first.append(sum(seconds[:-NEW_TOKENS])), total.append(sum(seconds))
        step.append(statistics.median(seconds[-NEW_TOKENS:]))
    first, step, total = (statistics.median(times[1:]) for times in (first, step, total))
    print(
        f"{size} {quantization or dtype}{' without a graph' * no_cuda_graph}: {TOKENS} tokens in {first:.3f} s, "
        f"then {1000 * step:.2f} ms a token; all of it {total:.3f} s; {peak_memory()}"
    )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["operations", "parity", "benchmark"])
    parser.add_argument("size", nargs="?", default="3B")
    parser.add_argument("--quantization", choices=["int8"])
    parser.add_argument("--no_cuda_graph", action="store_true")
    given = parser.parse_args()
    print(f"Paddle {paddle.__version__} on {paddle.device.get_device()}")
    parts = {"operations": operations, "parity": parity}
    benchmarked = given.size, given.quantization, given.no_cuda_graph
    return not (parts[given.part]() if given.part in parts else benchmark(*benchmarked))


if __name__ == "__main__":
    sys.exit(main())
