"""Calls of compiled operations, recorded and played: what is computed, what cannot be recorded, and the memory it takes."""

import threading
from pathlib import Path

import numpy as np
import paddle
import pytest
from ways import PLAIN_ONLY

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops.recording import Recording

WIDTH = 64


def weights(dtype: str = "bfloat16") -> list:
    """Of a norm, of a product and its bias."""
    paddle.seed(1)
    return [paddle.randn(shape).astype(dtype) for shape in ([WIDTH], [WIDTH, WIDTH], [WIDTH])]


def block(x, norm, weight, bias):
    """Each half adds to what came before it, as a decoder layer's do."""
    y = ops.linear(ops.rms_norm(x, norm, 1e-6), weight, bias)
    y, total = ops.rms_norm(y, norm, 1e-6, x)
    return ops.rms_norm(ops.linear(y, weight), norm, 1e-6, total)[1]


def record(run, given, constant):
    with paddle.no_grad():
        return Recording.of(run, given, constant)


if PLAIN_ONLY:

    def test_plain_paddle_is_not_recorded():
        x, held = paddle.randn([2, WIDTH]), weights()
        result, recording = record(lambda: block(x, *held), [x], held)
        assert recording is None and bool((result == block(x, *held)).all())

else:
    from paddlemix_qwenvl.ops.dispatch import compiled_library

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_play_is_what_the_operations_give(dtype):
        held = weights(dtype)

        def run(x):
            for _ in range(3):
                x = block(x, *held)
            return x

        inputs = [paddle.randn([3, WIDTH]) for _ in range(4)]
        with paddle.no_grad():
            wanted = [run(x).numpy() for x in inputs]
        result, recording = record(lambda: run(inputs[0]), inputs[:1], held)
        assert np.array_equal(result.numpy(), wanted[0])
        for x, value in zip(inputs, wanted, strict=True):
            assert np.array_equal(recording.play([x]).numpy(), value)
        assert not np.array_equal(wanted[0], wanted[1])

    def test_weights_that_change_in_place_are_read_again():
        held, x = weights("float32"), paddle.randn([2, WIDTH])
        _, recording = record(lambda: block(x, *held), [x], held)
        held[1].set_value(held[1] * 2)
        with paddle.no_grad():
            assert np.array_equal(recording.play([x]).numpy(), block(x, *held).numpy())

    def test_what_is_written_to_is_what_is_given_then():
        """Attention writes to the caches of each play, and reads its tables, which may have become wider."""
        draws = np.random.default_rng(0)

        def tensors(length: int, blocks: int) -> list:
            numbers = [draws.standard_normal(shape).astype(np.float32) for shape in ([1, 32], [1, 4], [1, 4])]
            caches = [draws.standard_normal([4, 1, 4, 8]).astype(np.float32) for _ in range(2)]
            table = np.arange(4, dtype=np.int32)[None, :blocks]
            whole = [np.array([length - 1], np.int32), table, np.array([length], np.int32)]
            return [paddle.to_tensor(each) for each in (*numbers, *caches, *whole)]

        first, second = tensors(3, 1), tensors(14, 4)
        copies = [each.clone() for each in second]
        run = lambda given: ops.qkv_decode_attention(*given, 2)[0]  # noqa: E731
        _, recording = record(lambda: run(first), first, [])
        with paddle.no_grad():
            found, wanted = recording.play(second), run(copies)
        assert np.array_equal(found.numpy(), wanted.numpy())
        for mine, theirs in zip(second, copies, strict=True):
            assert np.array_equal(mine.numpy(), theirs.numpy())

    @pytest.mark.parametrize(
        "run",
        [
            lambda x, held: block(x + 1, *held),
            lambda x, held: block(x, *held) * 2,
            lambda x, held: block(x, *held)[:1],
            lambda x, held: block(x, held[0], held[1].t().contiguous(), held[2]),
            lambda x, held: x,
        ],
        ids=["Paddle first", "Paddle last", "a view", "another weight", "nothing"],
    )
    def test_what_others_have_made_is_not_recorded(run):
        x, held = paddle.randn([2, WIDTH]), weights()
        result, recording = record(lambda: run(x, held), [x], held)
        with paddle.no_grad():
            assert recording is None and np.array_equal(result.numpy(), run(x, held).numpy())

    def test_weights_that_were_not_named():
        x, held = paddle.randn([2, WIDTH]), weights()
        assert record(lambda: block(x, *held), [x], held[:2])[1] is None

    @pytest.mark.parametrize("view", [lambda y: y.detach(), lambda y: y[:, :], lambda y: y.reshape([-1, WIDTH])])
    def test_what_a_view_holds_is_not_written_over(view):
        x, held = paddle.randn([2, WIDTH]), weights()

        def run():
            kept = view(ops.linear(x, held[1]))
            others = [ops.rms_norm(x, held[0], 1e-6) for _ in range(2)]
            return ops.rms_norm(kept, held[0], 1e-6, others[0])[1]

        result, recording = record(run, [x], held)
        with paddle.no_grad():
            wanted = run().numpy()
        assert np.array_equal(result.numpy(), wanted)
        assert recording is None or np.array_equal(recording.play([x]).numpy(), wanted)

    def test_an_error_ends_the_recording():
        x, held = paddle.randn([2, WIDTH]), weights()

        def fail():
            block(x, *held)
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            record(fail, [x], held)
        assert compiled_library().recorded(x) is None, "none is going on"
        _, recording = record(lambda: block(x, *held), [x], held)
        for wrong, error in ([paddle.randn([5, WIDTH])], "has shape"), ([], "range"), (["x"], "must be Tensor"):
            with pytest.raises(RuntimeError, match=error):
                recording.play(wrong)
        with paddle.no_grad():
            assert np.array_equal(recording.play([x]).numpy(), block(x, *held).numpy())

    def test_other_threads_are_not_recorded():
        x, held = paddle.randn([2, WIDTH]), weights()
        recorded, done = threading.Event(), threading.Event()

        def other():
            recorded.wait()
            with paddle.no_grad():
                block(paddle.ones([7, WIDTH]), *held)
            done.set()

        def run():
            y = block(x, *held)
            recorded.set()
            assert done.wait(60)
            return y

        thread = threading.Thread(target=other)
        thread.start()
        _, recording = record(run, [x], held)
        thread.join()
        assert recording is not None

    def test_what_nobody_reads_any_more_gives_its_memory_away():
        """40 tensors of 8 MB, of which three are needed at a time."""
        norm, x = paddle.ones([WIDTH]), paddle.randn([1 << 15, WIDTH])

        def run():
            y = x
            for _ in range(40):
                y = ops.rms_norm(y, norm, 1e-6)
            return y

        def held() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        record(run, [x], [norm])
        before = held()
        _, recording = record(run, [x], [norm])
        recording.play([x])
        most = 400 if compiled_library().HAS_CUDA else 64  # where each is one of its own
        assert held() - before < most << 20
