"""What both engines' runs share. Imports neither engine."""

import json
import statistics
import time
from pathlib import Path


def timed(function) -> tuple[float, object]:
    """Seconds of one call, and what it returned."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def peak_memory_gb(process: int | str = "self") -> float:
    """Highest resident memory of a process, mapped weight files included, in 10**9 bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def loaded(function) -> tuple[dict, object]:
    """Seconds that a model takes to load ("load") and this process's highest memory by then ("load memory"); the model."""
    seconds, model = timed(function)
    return {"load": seconds, "load memory": peak_memory_gb()}, model


class Steps:
    """A streamer that notes when each step's tokens came."""

    def __init__(self):
        self.times: list[float] = []

    def put(self, token_ids) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        return None


def generated(model, **arguments) -> tuple[dict[str, float], object]:
    """Seconds of "vision", "prefill" (the rest up to the first token) and "decode" (all steps after it) of one call of this
    package's `generate`, as any version of it has it; and the new tokens."""
    tower = model.visual if hasattr(model, "visual") else model.transformer.visual
    ticks, steps = [], Steps()
    hooks = [
        tower.register_forward_pre_hook(lambda *_: ticks.append(-time.perf_counter())),
        tower.register_forward_post_hook(lambda *_: ticks.append(time.perf_counter())),
    ]
    started = time.perf_counter()
    ids, _ = model.generate(**arguments, streamer=steps)
    for hook in hooks:
        hook.remove()
    first, vision = steps.times[0], sum(ticks)
    return {"vision": vision, "prefill": first - started - vision, "decode": steps.times[-1] - first}, ids


def torch_main(load, run, inputs: str, threads: str, tokens: str, repeats: str) -> None:
    """Time a PyTorch engine and report it.

    Args:
        load: makes the model.
        run: `(model, inputs, tokens)`: the seconds of its parts, and the answer.
        inputs: file with the arrays.
    """
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(int(threads))
    arguments = {name: torch.from_numpy(value) for name, value in np.load(inputs).items()}
    figures, model = loaded(load)
    times, answers = zip(*(run(model, arguments, int(tokens)) for _ in range(int(repeats) + 1)), strict=True)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    report({**versions, "threads": str(torch.get_num_threads())}, figures, times[1:], answers[-1])


def report(versions: dict, load: dict, runs: list[dict], tokens: list[int]) -> None:
    """Print, as the last line, the medians over `runs` of seconds "vision", "prefill" and "decode" (a token).

    load: what `loaded` measured.
    tokens: the answer, by which the engines are seen to do the same work.
    """
    seconds = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
    result = {"versions": versions, **load, **seconds, "memory": peak_memory_gb(), "tokens": tokens}
    print(json.dumps(result))


def report_rates(versions: dict, load: dict, prompt: int, rates: list[float], memory: float | None = None) -> None:
    """Print, as the last line, what an engine made of a trace.

    prompt: tokens of each prompt, as the engine counts them.
    rates: new tokens a second of all requests together, at each repeat.
    memory: the peak, if it is not this process's.
    """
    memory = memory or peak_memory_gb()
    print(json.dumps({"versions": versions, **load, "prompt": prompt, "rates": rates, "memory": memory}))
