"""Messages between ranks arrive as they were sent, in one broadcast if they are small."""

import numpy as np
import pytest
from test_parallel import ranks_of, together

from paddlemix_qwenvl.engine.messages import receive, send

VALUES = {
    "int64": np.arange(5),
    "float16": np.array([[1.5], [-0.0]], np.float16),
    "bool": np.array([True, False]),
    "bytes": np.frombuffer(b"\x00\xff", np.uint8),
    "no rows": np.zeros([0, 3], np.float32),
    "a number": np.array(2.5),
    "in another order": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
}


def carried(message) -> tuple:
    """What two ranks have of a message, and in how many broadcasts."""
    ranks = ranks_of(2)
    broadcasts = []
    share = ranks[0].group.share
    ranks[0].group.share = lambda rank, value: broadcasts.append(rank) or share(rank, value)
    found = together(ranks, lambda rank: receive(rank) if rank.rank else send(rank, message), ranks)
    return found[1], len(broadcasts) // 2


@pytest.mark.parametrize("name", VALUES)
def test_an_array_arrives_as_it_is(name):
    value = VALUES[name]
    found, broadcasts = carried([value, {"dtype": value}])
    assert broadcasts == 1
    for array in (found[0], found[1]["dtype"]):
        assert array.dtype == value.dtype and array.shape == value.shape and np.array_equal(array, value)
        assert array.flags.writeable and array.flags.aligned


def test_all_else_is_json():
    message = ["ü\n\x00", None, True, 3, 2.5, {"dtype": 1}, (np.bool_(True), np.int64(7))]
    assert carried(message)[0] == ["ü\n\x00", None, True, 3, 2.5, {"dtype": 1}, [True, 7]]


@pytest.mark.parametrize(("size", "broadcasts"), [(60_000, 1), (65_000, 1), (66_000, 2), (3_000_000, 2)])
def test_a_large_one_follows_in_a_second_broadcast(size, broadcasts):
    value = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    found, count = carried([value, "end"])
    assert np.array_equal(found[0], value) and found[1] == "end" and count == broadcasts
