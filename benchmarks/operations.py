"""Where the milliseconds of a prompt, of a step and of the vision tower go: each compiled operation, and the rest.

    python benchmarks/operations.py --checkpoint FOLDER [--dtype int8] [--prompts 512 --prompts 1024] [--patches 1024]

The rest is Python, and what Paddle's own operations take.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once
from measure import generated, timed
from options import DType
from random_checkpoint import config_3b

from paddlemix_qwenvl.threads import thread_count

STEPS = 16  # of decoding


def main(
    dtype: Annotated[DType, typer.Option("--dtype")] = DType.bfloat16,
    prompts: Annotated[list[int], typer.Option("--prompts", help="tokens")] = (512, 1024),
    patches: Annotated[int, typer.Option("--patches", help="of a square picture")] = 1024,
    repeats: options.Repeats = 3,
    checkpoint: options.Checkpoint = None,
) -> None:
    import paddlemix_qwenvl  # noqa: F401, I001, prepares the process for Paddle
    import paddle
    from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

    config = config_3b(12, 8)
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint or Path(scratch) / "checkpoint"
        make_once(folder, config)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(folder), **dtype.given())
    print(f"\n{cpu_name()}, {thread_count()} threads, {dtype.value}, ms, medians of {repeats}")
    clock, generator = Clock(), np.random.default_rng(0)
    side = round(patches**0.5)
    pixels = paddle.to_tensor(generator.standard_normal((side * side, 1176), np.float32))
    with paddle.no_grad():
        clock.show(f"vision, {side * side} patches", repeats, lambda: model.visual(pixels, np.array([[1, side, side]])))
    for length in prompts:
        ids = paddle.to_tensor(generator.integers(1000, 100000, (1, length)))

        def answer(tokens, ids=ids):
            return generated(model, input_ids=ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

        clock.show(f"prompt of {length} tokens", repeats, lambda answer=answer: answer(1))
    clock.show(f"{STEPS} steps after {prompts[0]} tokens and the prompt", repeats, lambda: answer(STEPS + 1))


class Clock:
    """Times every compiled operation that is called while it is in place."""

    def __init__(self):
        from paddlemix_qwenvl.ops import compiled

        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        run = compiled._run

        def timed_run(kernel, *arguments):
            took, outputs = timed(lambda: run(kernel, *arguments))
            name = kernel.removeprefix("qwenvl_")
            if name.startswith("linear"):
                name += f" {arguments[0].shape[-1]} to {outputs[0].shape[-1]}"
            self.seconds[name] += took
            self.calls[name] += 1
            return outputs

        compiled._run = timed_run

    def show(self, title: str, repeats: int, work) -> None:
        """A table of one piece of work."""
        totals, each = [], defaultdict(list)
        work()
        for _ in range(repeats):
            self.seconds.clear(), self.calls.clear()
            started = time.perf_counter()
            work()
            totals.append(time.perf_counter() - started)
            self.seconds["rest"] = totals[-1] - sum(self.seconds.values())
            for name, seconds in self.seconds.items():
                each[name].append(seconds)
        print(f"\n| {title} | calls | ms | share |\n|---|---|---|---|")
        total = statistics.median(totals)
        for name, values in sorted(each.items(), key=lambda item: -sum(item[1])):
            middle = statistics.median(values)
            print(f"| {name} | {self.calls[name] or ''} | {middle * 1e3:.1f} | {middle / total:.1%} |")
        print(f"| all [{min(totals) * 1e3:.0f} to {max(totals) * 1e3:.0f}] | | {total * 1e3:.1f} | |", flush=True)


if __name__ == "__main__":
    typer.run(main)
