"""A checkpoint's tensors into a model; `saving` writes them.

A model's parameters say by their pieces (`layers/parameter.py`) which tensors of a Hub checkpoint they are made of, so one table
serves reading, saving and tensor parallelism; a quantised weight says by its sources (`layouts.py`) how it lies there. Files are
mapped and tensors are read one at a time, only this rank's part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np

from paddlemix_qwenvl.environment import cpu_count
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.parameter import Piece, pieces_of, whole
from paddlemix_qwenvl.progress import Counter, OnProgress
from paddlemix_qwenvl.weights.casts import BLOCK, as_tensor, cast_into, empty, numpy_dtype, on_cpu
from paddlemix_qwenvl.weights.checkpoint import Checkpoint, some
from paddlemix_qwenvl.weights.quantised import fill_layer, laid_of

Plan = list[tuple]
"""For each parameter its path, its count of numbers, what fills it, and the arguments of that."""


def load_weights(
    model,
    checkpoint: Checkpoint,
    dtype: str,
    filled: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Fill the parameters of a model, made under `paddle.LazyGuard`, one tensor at a time.

    On a CPU what lies in a file as it is to be held stays there, mapped, and is read when it is used.

    Args:
        model: its parameters need no memory yet.
        checkpoint: where the values are.
        dtype: "float32", "float16" or "bfloat16"; values are cast to it.
        filled: called with the path of each parameter once it has its values; it may replace the parameter. Nothing is mapped
            then.
        on_progress: gets how many of the weights' numbers are there, and how many they are.

    Raises:
        CheckpointError: tensors that are missing, not expected or of another shape; nothing was filled then.
    """
    fill(plan(model, checkpoint, dtype), checkpoint, filled, filled is None, on_progress)


def plan(model, checkpoint: Checkpoint, dtype: str) -> Plan:
    """What `load_weights` is to do; errors as there."""
    pieces = dict(named_pieces(model))
    if faults := name_faults(pieces, checkpoint, optional_names(model)):
        raise CheckpointError(
            f"{checkpoint.path} does not fit the model: {', '.join(faults)}. Take all files from one model."
        )
    checkpoint.settle_layout(pieces.items())
    return readings(dict(model.named_parameters()), checkpoint, dtype)  # a tied one once, under its first path


def readings(parameters: dict[str, Any], checkpoint: Checkpoint, dtype: str) -> Plan:
    """The same of some parameters by their paths, of a model that is known to fit."""
    return [(path, prod(each.shape), *_reader(path, each, checkpoint, dtype)) for path, each in parameters.items()]


def fill(
    plan: Plan,
    checkpoint: Checkpoint,
    filled: Callable[[str], None] | None = None,
    mapped: bool = True,
    on_progress: OnProgress | None = None,
) -> None:
    """Do what a plan says, and empty it: what `filled` replaces is to give its memory back.

    While a parameter is copied to a GPU the next is read, unless `filled` is to find nothing else on the card. The memory is not
    pinned: Paddle fills such memory by a copy alone, of what has to be in other memory first.
    """
    by_turns = _one_by_one if on_cpu() or filled is not None else _two_at_a_time
    mapped, counter = mapped and on_cpu(), Counter(sum(size for _, size, *_ in plan), on_progress)
    with ThreadPoolExecutor(cpu_count()) as pool:
        for path, size in by_turns(plan, checkpoint, pool, mapped):
            if filled is not None:
                filled(path)
            counter.add(size)


def _one_by_one(plan: Plan, *given) -> Iterator[tuple[str, int]]:
    """Fill each parameter and give its path and count."""
    while plan:
        path, size, read, *what = plan.pop(0)
        read(*what, *given)
        del read, what
        yield path, size


def _two_at_a_time(plan: Plan, *given) -> Iterator[tuple[str, int]]:
    """The same; each is begun before the one before it is done."""
    begun: deque[tuple] = deque()
    with ThreadPoolExecutor(2) as threads:
        while plan or begun:
            while plan and len(begun) < 2:
                path, size, read, *what = plan.pop(0)
                begun.append((path, size, threads.submit(read, *what, *given)))
            path, size, done = begun.popleft()
            done.result()
            yield path, size


def _reader(path: str, parameter, checkpoint: Checkpoint, dtype: str) -> tuple:
    """What fills a parameter, and its arguments but for the last three. What their shapes can tell is told now."""
    laid = laid_of(parameter)
    if laid is None:
        return _fill, parameter, _sources(parameter, path, checkpoint), dtype
    for source in laid.sources:
        for name, shape in source.tensors().items():
            checkpoint.read(name, shape, whole(shape), linear=True)
    return fill_layer, laid


def named_pieces(model) -> Iterator[tuple[str, Piece]]:
    """The tensors of a checkpoint that a model is made of, with their names."""
    for path, parameter in model.named_parameters():
        laid = laid_of(parameter)
        for piece in pieces_of(parameter) if laid is None else ():
            yield piece.name(path), piece
        for source in laid.sources if laid else ():
            for name, shape in source.tensors().items():
                yield name, Piece(shape, whole(shape), slice(0, shape[0]), linear=True)


def optional_names(model) -> set[str]:
    """The tensors that a checkpoint may hold without the model needing them."""
    sources = [source for laid in map(laid_of, model.parameters()) if laid for source in laid.sources]
    return {*model.optional_weights, *(name for source in sources for name in source.known())}


def name_faults(wanted: Iterable[str], checkpoint: Checkpoint, optional: Iterable[str] = ()) -> list[str]:
    """How many tensors are missing and how many not expected, with the first of them; empty if all is well."""
    missing, unexpected = {*wanted} - checkpoint.names(), checkpoint.names() - {*wanted, *optional}
    found = [f"{name} in {checkpoint.file_of(name).name}" for name in unexpected]
    return [*filter(None, [some("tensors missing", missing), some("tensors unexpected", found)])]


def _sources(parameter, path: str, checkpoint: Checkpoint) -> list[tuple]:
    """For each piece its name, its rows in the parameter, its mapped values and whether they are bfloat16."""
    found = []
    for piece in pieces_of(parameter):
        values, is_bfloat16 = checkpoint.read(name := piece.name(path), piece.shape, piece.source, piece.linear)
        if values.dtype.kind == "V":
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: tensor {name!r} is in float8, of which config.json says nothing: take all files "
                f"from one model."
            )
        found.append((name, piece.rows, values, is_bfloat16))
    return found


def _fill(
    parameter, sources: list[tuple], dtype: str, checkpoint: Checkpoint, pool: ThreadPoolExecutor, mapped: bool
) -> None:
    buffer = _in_place(parameter, sources, dtype, checkpoint) if mapped else None
    if buffer is None:
        buffer = _copied(parameter, sources, dtype, checkpoint, pool)
    as_tensor(buffer)._share_buffer_to(parameter)


def _in_place(parameter, sources: list[tuple], dtype: str, checkpoint: Checkpoint) -> np.ndarray | None:
    """A parameter's values in the memory of the file, None where they are not there as they are to be."""
    names, _, parts, are_bfloat16 = zip(*sources, strict=True)
    if {*are_bfloat16} != {dtype == "bfloat16"} or {part.dtype for part in parts} != {numpy_dtype(dtype)}:
        return None
    return checkpoint.in_place(names, [*parts], parameter.shape, numpy_dtype(dtype))


def _copied(
    parameter, sources: list[tuple], dtype: str, checkpoint: Checkpoint, pool: ThreadPoolExecutor
) -> np.ndarray:
    """A parameter's values in memory of their own."""
    buffer = empty(parameter.shape, numpy_dtype(dtype))
    for name, place, values, is_bfloat16 in sources:
        rows = buffer[place]
        values = values.reshape(rows.shape)
        if values.strides[0] < values.strides[-1]:  # as the file has it, so that a block is one stretch of the file
            rows, values = rows.T, values.T
        step = max(1, BLOCK // max(1, values[:1].size))

        def read(start, name=name, rows=rows, values=values, is_bfloat16=is_bfloat16, step=step):
            cast_into(values[start : start + step], is_bfloat16, dtype, rows[start : start + step])
            checkpoint.release(name)

        list(pool.map(read, range(0, len(values), step)))
    return buffer
