"""What a stand-in card counts: copies, and operations, those that it plays as one each."""

import numpy as np
import paddle
from gpu_counts import counting
from gpu_stand_in import card

from paddlemix_qwenvl import ops


def test_copies_and_operations():
    x = paddle.ones([2, 16], "bfloat16")
    cos, sin = paddle.ones([2, 2]), paddle.zeros([2, 2])
    keys, values, slots = (
        paddle.zeros([1, 1, 2, 4]),
        paddle.zeros([1, 1, 2, 4]),
        paddle.to_tensor([0, 1], dtype="int32"),
    )
    with card((8, 0), kernels=True), counting() as counts:
        weight = paddle.to_tensor(np.ones(16, np.float32))
        assert (counts.log, counts.operations) == (["blocking upload"], 0)
        ops.rms_norm(x, weight, 1e-6)  # and a cast of the weight
        assert counts.played == {"fused_rms_norm": 1} and counts.operations == 2
        y = paddle.matmul(x, x, transpose_y=True) + x[:, :2]
        assert counts.played == {"fused_rms_norm": 1, "_matmul": 1, "__add__": 1} and counts.operations == 5
        ops.qkv_write_cache(y.astype("float32").tile([1, 6]), cos, sin, keys, values, slots, 1)
        assert counts.played["qkv_write_cache"] == 1 and counts.operations == 8
        assert y.astype("float32").tolist() == [[17, 17], [17, 17]] and bool((y > 0).all()) and float(y.max()) == 17
        assert counts.log[1:] == ["blocking download"] * 3
        counts.log.clear()
        pinned = paddle.to_tensor(np.arange(3), place=paddle.CUDAPinnedPlace())
        pinned.get_tensor().set(np.arange(3), paddle.CUDAPinnedPlace())
        assert not counts.log
        paddle.zeros([2]).set_value(np.ones(2, np.float32))
        assert counts.log.pop() == "blocking upload"
        host, arrived = pinned.cuda(blocking=False).pin_memory(blocking=False), paddle.device.cuda.Event()
        arrived.record()
        arrived.synchronize()
        assert host.numpy().tolist() == [0, 1, 2]
        assert counts.log == ["upload", "download", "wait"]
    done = counts.operations
    paddle.ones([1]) + 1
    assert counts.operations == done
