"""Weights on their way to a card: each goes there once, and what arrives is the parameter."""

import threading
import weakref

import hub_model
import paddle
import pytest
import quantised_files as files
from gpu_counts import counting
from gpu_stand_in import card

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.weights import loading


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_upload_a_parameter(tmp_path, dtype, monkeypatch):
    hub_model.write(tmp_path, files.CONFIG, hub_model.tensors(files.CONFIG))
    arrived = []
    with card((8, 0)) as patch:
        upload = paddle.Tensor._copy_to
        patch.setattr(paddle.Tensor, "_copy_to", lambda *given: arrived.append(upload(*given)) or arrived[-1])
        with counting() as counts:
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    parameters = model.parameters()
    assert counts.log.count("upload") == len(arrived) == len(parameters)
    assert {x.data_ptr() for x in parameters} == {x.data_ptr() for x in arrived}, "copied again on the card"
    assert not {"blocking upload", "blocking download"} & {*counts.log}


def test_the_next_parameter_is_read_while_one_is_uploaded(tmp_path):
    """And no more: of the host's memory there are never more than two tensors."""
    hub_model.write(tmp_path, files.CONFIG, hub_model.tensors(files.CONFIG))
    load = Qwen2_5_VLForConditionalGeneration.from_pretrained
    parameters, changed, own = len(load(tmp_path).parameters()), threading.Condition(), threading.local()
    memories, most, met = [], [], []
    with card((8, 0)) as patch:
        upload, empty = paddle.Tensor._copy_to, loading.empty

        def read(*kind):
            with changed:
                memories.append(weakref.ref(array := empty(*kind)))
                most.append(sum(each() is not None for each in memories))
                own.next = min(parameters, len(memories) + 1)
                changed.notify_all()
            return array

        def upload_beside_the_next(*given):
            with changed:
                met.append(all(met) and changed.wait_for(lambda: len(memories) >= own.next, timeout=20))
            return upload(*given)

        patch.setattr(loading, "empty", read)
        patch.setattr(paddle.Tensor, "_copy_to", upload_beside_the_next)
        load(tmp_path, dtype="bfloat16")
    assert len(met) == parameters and all(met)
    assert max(most) == 2
