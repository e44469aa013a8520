"""What rank 0 tells the others: anything of JSON, with NumPy arrays in it. Nothing is pickled."""

from __future__ import annotations

import json

import numpy as np
import paddle

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.parallel import TensorParallel

_AT_ONCE = 64 << 10  # bytes, its length included, of the first broadcast, which is the only one for most messages
_LENGTH = 8


def send(parallel: TensorParallel, message) -> None:
    """Tell the other ranks; they `receive`."""
    data = _encoded(message)
    first = np.zeros(_AT_ONCE, np.uint8)
    first[:_LENGTH] = _number(data.size)
    head, rest = np.split(data, [_AT_ONCE - _LENGTH])
    first[_LENGTH : _LENGTH + head.size] = head
    parallel.broadcast(to_device(first))
    if rest.size:
        parallel.broadcast(to_device(rest))


def receive(parallel: TensorParallel):
    """What rank 0 sends; tuples come as lists."""
    first = parallel.broadcast(paddle.empty([_AT_ONCE], "uint8")).numpy()
    size = int.from_bytes(first[:_LENGTH].tobytes(), "little")
    data = first[_LENGTH : _LENGTH + size]
    if size > data.size:
        rest = parallel.broadcast(paddle.empty([size - data.size], "uint8")).numpy()
        data = np.concatenate([data, rest])
    return _decoded(data)


def _encoded(message) -> np.ndarray:
    """Length of the JSON, the JSON, and the bytes of the arrays in the order in which it names them."""
    arrays: list[np.ndarray] = []

    def named(value):
        if isinstance(value, np.generic):
            return value.item()
        arrays.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return {"dtype": value.dtype.str, "shape": value.shape}

    text = np.frombuffer(json.dumps(message, default=named).encode(), np.uint8)
    return np.concatenate([_number(text.size), text, *arrays])


def _decoded(data: np.ndarray):
    end = _LENGTH + int.from_bytes(data[:_LENGTH].tobytes(), "little")
    at = end

    def array(value: dict):
        nonlocal at
        if value.keys() != {"dtype", "shape"}:
            return value
        dtype = np.dtype(value["dtype"])
        start, at = at, at + dtype.itemsize * int(np.prod(value["shape"], dtype=np.int64))
        return data[start:at].copy().view(dtype).reshape(value["shape"])

    return json.loads(data[_LENGTH:end].tobytes(), object_hook=array)


def _number(value: int) -> np.ndarray:
    return np.frombuffer(value.to_bytes(_LENGTH, "little"), np.uint8)
