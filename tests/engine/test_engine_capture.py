"""Work captured as a CUDA graph, on the stand-in card: replayed on the tensors that it was captured with, or told why not."""

import numpy as np
import paddle
import pytest
from gpu_stand_in import card

from paddlemix_qwenvl.engine.capture import Captured, Captures


def test_a_replay_reads_and_writes_where_the_work_did():
    with card((8, 0)):
        x, total = paddle.ones([3]), paddle.zeros([3])

        def run():
            paddle.assign(total + x, total)
            return total * 2

        captured = Captured(run, [x, total])
        assert total.tolist() == [0, 0, 0], "nothing is done while it is captured"
        for value, wanted in ((5.0, 10), (1.0, 12)):
            paddle.assign(paddle.full([3], value), x)
            captured.replay()
            assert captured.output.tolist() == [wanted] * 3


@pytest.mark.parametrize(
    "run",
    [lambda: paddle.to_tensor(np.ones(3, np.float32)) * 2, lambda: paddle.zeros([1 + int(paddle.ones([1]))])],
    ids=["inputs made anew", "a number read"],
)
def test_work_that_waits_for_the_device_cannot_be_captured(run):
    with card((8, 0)), pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        Captured(run, [])


def test_work_is_captured_the_second_time():
    x = paddle.ones([2])
    with card((8, 0)):
        captures = Captures(is_on=True)
        for count in range(3):
            assert (captures.get("twice") is not None) == (count == 2)
            captures.done("twice", lambda: x * 2, [x])
        captures.done("once", lambda: x * 3, [x])
        assert captures.get("once") is None
        captures.clear()
        assert captures.get("twice") is None


def test_what_cannot_be_captured_is_said_once(caplog):
    with card((8, 0)):
        captures = Captures(is_on=True)
        for key in ("a", "a", "b", "b"):
            captures.done(key, lambda: paddle.ones([1]) * float(paddle.ones([1])), [])
        assert captures.get("a") is None and captures.get("b") is None
    (record,) = caplog.records
    assert record.getMessage() == (
        "decode steps are queued operation by operation, since they cannot be captured: (External) CUDA error(900), operation not "
        "permitted when stream is capturing."
    )


def test_none_is_captured_where_that_is_off():
    with card((8, 0)):
        captures = Captures(is_on=False)
        for _ in range(3):
            captures.done("a", lambda: paddle.ones([1]), [])
        assert captures.get("a") is None
