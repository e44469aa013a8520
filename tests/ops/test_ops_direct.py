"""Operations called at once give what Paddle's way to them gives."""

import gc
import threading

import paddle
import pytest
from ways import PLAIN_ONLY

from paddlemix_qwenvl import ops

if not PLAIN_ONLY:
    import paddlemix_qwenvl_ops as library


def cases() -> dict:
    paddle.seed(0)
    x, weight, bias = paddle.randn([3, 64]), paddle.randn([32, 64]), paddle.randn([32])
    caches = [paddle.zeros([4, 2, 16, 8]) for _ in range(2)]
    angles = [paddle.rand([3, 4]) for _ in range(2)]
    return {
        "rms_norm": (x, weight[0], 1e-6),
        "add_rms_norm": (x, weight[0], x + 1, 1e-6),
        "linear": (x, weight, None, bias),
        "linear without a bias": (x, weight, None, None),
        "linear of a view": (paddle.randn([64, 3]).t(), weight.t().contiguous().t(), None, bias),
        "varlen_attention": (*[x.reshape([3, 8, 8])] * 3, *[paddle.to_tensor([0, 3], "int32")] * 2, True, 0.3),
        "add_bias": (paddle.randn([3, 32]), bias),
        "qkv_write_cache": (paddle.randn([3, 48]), *angles, *caches, paddle.to_tensor([1, 20, 33], "int32"), 2),
    }


def copies(arguments) -> list:
    return [each.clone() if isinstance(each, paddle.Tensor) and each.is_contiguous() else each for each in arguments]


if not PLAIN_ONLY:

    @pytest.mark.parametrize("case", cases())
    @paddle.no_grad()
    def test_it_gives_what_paddle_gives(case):
        name, arguments = f"qwenvl_{case.split()[0]}", cases()[case]
        mine, theirs = copies(arguments), copies(arguments)
        found, wanted = library.DIRECT[name](*mine), library.run(name, *theirs)
        assert [each.shape for each in found] == [each.shape for each in wanted]
        for one, other in (*zip(found, wanted, strict=True), *zip(mine, theirs, strict=True)):
            if isinstance(one, paddle.Tensor):
                assert bool((one == other).all()) and one.dtype == other.dtype and one.stop_gradient

    def test_there_is_one_of_each():
        assert library.DIRECT.keys() == library.OPERATIONS

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ((), TypeError, "takes 3 arguments, not 0"),
            ((1, 2, 3, 4), TypeError, "takes 3 arguments, not 4"),
            ((paddle.ones([2, 64]), paddle.ones([3]), 1e-6), RuntimeError, r"weight has shape \[3\], expected \[64\]"),
            ((paddle.ones([2, 64]), "weight", 1e-6), RuntimeError, "must be Tensor"),
            ((paddle.ones([2, 64]), paddle.ones([64]), "small"), TypeError, "must be real number"),
        ],
    )
    def test_bad_arguments(arguments, error, message):
        with pytest.raises(error, match=message):
            library.DIRECT["qwenvl_rms_norm"](*arguments)

    def test_nothing_is_left_behind():
        x, weight = paddle.ones([2, 64]), paddle.ones([64])
        for _ in range(3):
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(50):
                library.DIRECT["qwenvl_rms_norm"](x, weight, 1e-6)
        gc.collect()
        assert len(gc.get_objects()) - before < 50

    def test_gradients_go_paddles_way(monkeypatch):
        def never(*arguments):
            raise AssertionError("called at once")

        monkeypatch.setitem(library.DIRECT, "qwenvl_rms_norm", never)
        x, weight = paddle.randn([2, 64]), paddle.ones([64])
        x.stop_gradient = False
        ops.rms_norm(x, weight, 1e-6).sum().backward()
        assert x.grad is not None
        with paddle.no_grad(), pytest.raises(AssertionError, match="called at once"):
            ops.rms_norm(x, weight, 1e-6)

    def test_a_library_without_them(monkeypatch):
        x, weight = paddle.randn([2, 64]), paddle.ones([64])
        with paddle.no_grad():
            wanted = ops.rms_norm(x, weight, 1e-6)
            monkeypatch.setattr(library, "DIRECT", {})
            assert bool((ops.rms_norm(x, weight, 1e-6) == wanted).all())

    @paddle.no_grad()
    def test_threads_of_python_go_on_meanwhile():
        x, weight = paddle.randn([256, 1024]), paddle.randn([1024, 1024])
        wanted = library.run("qwenvl_linear", x, weight, None, None)[0]
        found = []

        def compute():
            with paddle.no_grad():
                found.extend(library.DIRECT["qwenvl_linear"](x, weight, None, None)[0] for _ in range(10))

        threads = [threading.Thread(target=compute) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 40 and all(bool((each == wanted).all()) for each in found)
